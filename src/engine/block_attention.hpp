// Attention of one layer on one rank, advancing as key blocks arrive.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/aligned_buffer.hpp"
#include "base/thread_pool.hpp"
#include "engine/layer_kv.hpp"
#include "math/attention.hpp"
#include "partition/partition.hpp"
#include "powerprefill/pattern.hpp"

namespace powerprefill {

// Queries and softmax states of all local blocks: stacks of (H/G B, D), one per (key/value head,
// local block), see math/attention.hpp.
//
// Each stack merges its key blocks strictly in descending order. advance() takes every stack as far
// as the blocks that are here allow, so the order of arrival changes only when work is done, never
// its result.
class BlockAttention {
 public:
  BlockAttention(const Partition& partition, int rank, const AttentionShape& shape,
                 const KvShape& kv_shape, int threads);

  // The stack of queries to fill, (H/G B, D); row h B + t.
  float* query(std::int64_t kv_head, std::int64_t local_block) {
    return query_.data() + stack(kv_head, local_block) * shape_.rows() * shape_.head_dim;
  }

  // Forgets the states; the layer to come attends by `pattern`.
  void begin(ThreadPool& pool, const Pattern& pattern);
  // Merges what is here: `find` gives a key block, or nullptr while it is not here. `between` is
  // called on the calling thread between stacks.
  using FindBlock = std::function<const KvBlockView*(std::int64_t block)>;
  void advance(ThreadPool& pool, const FindBlock& find, const std::function<void()>& between);
  bool is_done() const { return unfinished_ == 0; }
  // The highest key block that is still to be merged by any stack; -1 when all is done.
  std::int64_t highest_pending() const;

  // The result of query head `head` at row `token` of a local block, divided by the softmax sum,
  // (D).
  void read_result(std::int64_t head, std::int64_t local_block, std::int64_t token,
                   float* out) const;

  // (query block, key block) pairs merged so far, over all layers, each counted once for all heads.
  std::int64_t pairs() const { return pairs_; }
  // Useful pairs of a query token and a key token that it sees, over all layers, for one head.
  std::int64_t token_pairs() const { return token_pairs_; }
  std::int64_t bytes() const;

 private:
  struct Cursor {                    // of one local block; all key/value heads advance together
    std::int64_t block;              // global
    std::vector<std::int64_t> keys;  // descending
    std::size_t merged = 0;          // of `keys`
  };
  struct Scratch {
    AttentionScratch attention;
    AlignedBuffer<float> key;    // (B, D), for dtypes other than f32
    AlignedBuffer<float> value;  // (B, D)
  };

  std::int64_t stack(std::int64_t kv_head, std::int64_t local_block) const {
    return kv_head * static_cast<std::int64_t>(cursors_.size()) + local_block;
  }
  MatrixView f32_view(const std::byte* block, std::int64_t kv_head, AlignedBuffer<float>& scratch);
  void merge(std::int64_t kv_head, std::int64_t local_block, std::int64_t key,
             const KvBlockView& view, Scratch& scratch);

  const Partition& partition_;
  AttentionShape shape_;
  KvShape kv_shape_;
  std::vector<Cursor> cursors_;   // by local block
  AlignedBuffer<float> query_;    // (G, local blocks, H/G B, D)
  AlignedBuffer<float> out_;      // like query_
  AlignedBuffer<float> maximum_;  // (G, local blocks, H/G B)
  AlignedBuffer<float> sum_;      // like maximum_
  std::vector<Scratch> scratch_;  // per thread
  std::int64_t unfinished_ = 0;   // local blocks
  std::int64_t pairs_ = 0;
  std::int64_t token_pairs_ = 0;
};

}  // namespace powerprefill
