// The exchange of one layer's KV blocks between ranks, overlapped with computation.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "engine/layer_kv.hpp"
#include "mpi/communicator.hpp"
#include "mpi/request.hpp"
#include "partition/exchange_plan.hpp"
#include "partition/partition.hpp"

namespace powerprefill {

// Carries out an ExchangePlan, layer after layer.
//
// start() posts everything; poll() makes progress and is meant to be called between tiles, since Open
// MPI moves data only inside its calls. A block is found by find() once it is here; its memory stays
// valid until the next start(). Blocks of this rank are found at once.
//
// Steps and bytes: all messages of a layer are in flight together; a rank receives
// plan.received_blocks() x 2 B G D x element bytes. The sink goes down a tree: log2 P hops.
class KvExchange {
 public:
  // `plan` and `partition` must outlive the exchange.
  KvExchange(const mpi::Communicator& comm, const ExchangePlan& plan, const Partition& partition,
             const KvShape& shape);

  // Starts the exchange of a layer whose own blocks are in `local`, which must not change before
  // finish(). The exchange before must be finished.
  void start(KvBlocks& local);
  // Makes progress and forwards the sink.
  void poll();
  // Whether blocks have arrived since the last call of this function or of start().
  bool take_news() { return std::exchange(news_, false); }
  // Waits until there are news, and takes them. Only while blocks are missing.
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
  // Consecutive blocks: one message of keys, one of values.
  struct Piece {
    std::span<std::byte> key;
    std::span<std::byte> value;
  };
  // One share, or the blocks of one sink tree.
  struct Incoming {
    int from;
    int tag;
    std::vector<BlockRange> ranges;
    std::vector<int> forward_to;  // children in the sink's tree
    KvBlocks blocks;              // in the order of `ranges`
    mpi::RequestBatch requests;
    bool arrived = true;
  };

  std::vector<Piece> pieces_of(Incoming& incoming) const;
  std::vector<Piece> pieces_of(KvBlocks& local, const std::vector<BlockRange>& ranges) const;
  void send(const std::vector<Piece>& pieces, int to, int tag);
  void publish(const Incoming& incoming);

  const mpi::Communicator& comm_;
  const ExchangePlan& plan_;
  const Partition& partition_;
  std::vector<Incoming> incoming_;
  mpi::RequestBatch sends_;
  std::vector<KvBlockView> views_;  // by global block
  bool news_ = false;
  std::int64_t bytes_received_ = 0;
};

}  // namespace powerprefill
