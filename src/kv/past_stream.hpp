// The past of a chunk: blocks of earlier chunks, streamed from where they are kept.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "base/trace.hpp"
#include "kv/layer_kv.hpp"
#include "kv/past_source.hpp"

namespace powerprefill {

// Reads the past blocks that one rank needs of a layer, in descending order, ahead of their use.
//
// A thread of its own reads and checks them, at most `budget` bytes ahead, so that reading overlaps
// computation and memory does not grow with the past. find() shows a block from the poll() that
// finds it read until release_above() says that no query needs it any more. Since queries merge
// blocks in descending order, a block is read once per layer.
class PastStream {
 public:
  // `past` outlives the stream; it has the blocks below `past_blocks`, whole. No layer
  // needs more than `most_blocks` of them. `row`: of the reading thread in a trace.
  PastStream(const PastSource& past, const KvShape& shape, std::int64_t past_blocks,
             std::int64_t most_blocks, std::int64_t budget, TraceRow* row = nullptr);
  PastStream(const PastStream&) = delete;
  PastStream& operator=(const PastStream&) = delete;
  ~PastStream();

  // Forgets the layer before and starts reading `blocks` (descending) of `layer`. `blocks` stays
  // unchanged until the next begin().
  void begin(std::int64_t layer, const std::vector<std::int64_t>& blocks);
  // Takes over what was read; true if there was anything new. Throws Error(cache) for a damaged
  // block.
  bool poll();
  // The block, or nullptr while it has not been read.
  const KvBlockView* find(std::int64_t block) const {
    const KvBlockView& view = views_[static_cast<std::size_t>(block)];
    return view.key != nullptr ? &view : nullptr;
  }
  // The highest block that any query still needs is `block`; what lies above makes room.
  void release_above(std::int64_t block);

  std::int64_t bytes_read() const { return bytes_read_; }
  std::int64_t buffer_bytes() const { return slots_.bytes(); }

 private:
  struct Read {
    std::int64_t block;
    std::int64_t slot;
  };

  void run();

  const PastSource& past_;
  KvShape shape_;
  KvBlocks slots_;
  std::vector<KvBlockView> views_;  // by block; main thread only
  std::deque<Read> held_;           // published, descending; main thread only
  std::int64_t bytes_read_ = 0;
  TraceRow* row_;

  std::mutex mutex_;
  std::condition_variable wake_;
  const std::vector<std::int64_t>* wanted_ = nullptr;
  std::size_t next_ = 0;  // of wanted_
  std::int64_t layer_ = 0;
  bool reading_ = false;  // a block, outside the lock
  bool stopping_ = false;
  std::vector<std::int64_t> free_;
  std::deque<Read> read_;  // not yet published
  std::exception_ptr failure_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace powerprefill
