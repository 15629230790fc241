// The exchange of one layer's KV blocks between ranks, overlapped with computation.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kv/layer_kv.hpp"
#include "mpi/communicator.hpp"
#include "mpi/request.hpp"
#include "partition/exchange_plan.hpp"
#include "partition/partition.hpp"
#include "plan/chunks.hpp"

namespace powerprefill {

// How blocks travel. Everything but `overlapped` is there to measure what that hides.
enum class Transfer {
  overlapped,  // behind the computation
  blocking,    // start() waits for what it has asked for
  none,        // nothing is sent: blocks of other ranks are found at once, with any content
};

// Carries out an ExchangePlan, layer after layer.
//
// start() posts all sends and the first receives; poll() makes progress and is meant to be called
// between tiles, since Open MPI moves data only inside its calls. A block is found by find() once
// it is here. Blocks of this rank are found at once, and stay; those of a share stay until
// release_above() says that no query needs them any more, which makes room for the next share. At
// most kSharesInFlight shares are held, so that full attention needs no more memory than a sparse
// pattern. Sink blocks stay until the next start().
//
// Steps and bytes: a rank receives plan.received_blocks() x 2 B G D x element bytes,
// kSharesInFlight shares at a time; the sink goes down a tree of log2 P hops. Under full attention
// with P = 4 and a zigzag partition (chunks of L blocks, rank 1 owns chunks 1 and 6) rank 1
// receives chunks 5, 4, 3, 2, 0 in this order: 5 L blocks.
class KvExchange {
 public:
  // `plan` and `partition` must outlive the exchange.
  KvExchange(const mpi::Communicator& comm, const ExchangePlan& plan, const Partition& partition,
             const KvShape& shape, Transfer transfer = Transfer::overlapped);

  // Starts the exchange of a layer whose own blocks are in `local`, which must not change before
  // finish(). The exchange before must be finished.
  void start(KvBlocks& local);
  // Makes progress and forwards the sink.
  void poll();
  // Whether blocks have arrived since the last call of this function or of start().
  bool take_arrivals() { return std::exchange(arrivals_, false); }
  // Forgets the shares all of whose blocks are above `block`, and asks for the next ones: queries
  // merge blocks in descending order, and the highest that any of them still needs is `block`.
  void release_above(std::int64_t block);
  // Waits until a block has arrived, and takes note of it. Only while blocks are missing.
  void wait_for_arrival();
  // Waits for all messages, the sends too.
  void finish();

  // The block, or nullptr while it has not arrived (or is not part of the plan).
  const KvBlockView* find(std::int64_t block) const {
    const KvBlockView& view = views_[static_cast<std::size_t>(block)];
    return view.key != nullptr ? &view : nullptr;
  }

  // Totals over all layers so far, from the receive statuses.
  std::int64_t bytes_received() const { return bytes_received_; }
  std::int64_t buffer_bytes() const;

 private:
  // One share, or the blocks of one sink tree.
  struct Incoming {
    int from;
    int tag;
    std::vector<BlockRange> ranges;
    std::vector<int> forward_to;  // children in the sink's tree
    KvBlocks* blocks = nullptr;   // holds them in the order of `ranges`, from request to release
    mpi::RequestBatch requests;
    bool arrived = false;
    std::int64_t lowest() const { return ranges.back().first.value; }
  };

  // Consecutive blocks are one message of keys, and one of values.
  std::vector<KvSpan> spans_of(Incoming& incoming) const;
  std::vector<KvSpan> spans_of(KvBlocks& local, const std::vector<BlockRange>& ranges) const;
  void send(const std::vector<KvSpan>& spans, int to, int tag);
  void request(Incoming& incoming);
  void publish(const Incoming& incoming);
  bool is_missing() const;

  const mpi::Communicator& comm_;
  const ExchangePlan& plan_;
  const Partition& partition_;
  Transfer transfer_;
  std::vector<Incoming> shares_;  // in the order of use
  std::vector<Incoming> sinks_;
  std::vector<KvBlocks> slots_;  // share i is held in slot i % kSharesInFlight
  std::vector<KvBlocks> sink_blocks_;
  std::size_t requested_ = 0;  // shares [0, requested_) have been asked for
  std::size_t released_ = 0;   // shares [0, released_) are forgotten
  mpi::RequestBatch sends_;
  std::vector<KvBlockView> views_;  // by global block
  bool arrivals_ = false;
  std::int64_t bytes_received_ = 0;
};

}  // namespace powerprefill
