#include "engine/kv_exchange.hpp"

#include <algorithm>
#include <thread>
#include <utility>

namespace powerprefill {

namespace {
// Messages of one tag between a pair of ranks arrive in the order in which they were sent, so layers
// need no tags. Sink trees do, one each: a rank forwards what arrives first, and may be the parent of
// the same child in several trees.
constexpr int kShareTag = 0;
int sink_tag(const SinkTree& tree) { return 1 + tree.blocks.peer; }
}  // namespace

KvExchange::KvExchange(const mpi::Communicator& comm, const ExchangePlan& plan,
                       const Partition& partition, const KvShape& shape)
    : comm_(comm),
      plan_(plan),
      partition_(partition),
      views_(static_cast<std::size_t>(partition.blocks())) {
  const auto expect = [&](int from, int tag, const Share& share, std::vector<int> forward_to) {
    Incoming incoming{from, tag, share.ranges, std::move(forward_to), {}, {}, true};
    incoming.blocks = KvBlocks(shape, share.blocks());
    incoming_.push_back(std::move(incoming));
  };
  for (const Share& share : plan.receives) expect(share.peer, kShareTag, share, {});
  for (const SinkTree& tree : plan.sinks) {
    if (tree.parent >= 0) expect(tree.parent, sink_tag(tree), tree.blocks, tree.children);
  }
}

std::vector<KvExchange::Piece> KvExchange::pieces_of(Incoming& incoming) const {
  std::vector<Piece> pieces;
  std::int64_t offset = 0;
  for (const BlockRange& range : incoming.ranges) {
    pieces.push_back({incoming.blocks.keys(offset, range.count),
                      incoming.blocks.values(offset, range.count)});
    offset += range.count;
  }
  return pieces;
}

std::vector<KvExchange::Piece> KvExchange::pieces_of(KvBlocks& local,
                                                     const std::vector<BlockRange>& ranges) const {
  std::vector<Piece> pieces;
  for (const BlockRange& range : ranges) {
    const std::int64_t first = partition_.local(range.first).value;
    pieces.push_back({local.keys(first, range.count), local.values(first, range.count)});
  }
  return pieces;
}

void KvExchange::send(const std::vector<Piece>& pieces, int to, int tag) {
  for (const Piece& piece : pieces) {
    sends_.send(comm_, to, tag, piece.key);
    sends_.send(comm_, to, tag, piece.value);
  }
}

void KvExchange::start(KvBlocks& local) {
  news_ = false;
  for (Incoming& incoming : incoming_) {
    incoming.arrived = false;
    for (const Piece& piece : pieces_of(incoming)) {
      incoming.requests.receive(comm_, incoming.from, incoming.tag, piece.key);
      incoming.requests.receive(comm_, incoming.from, incoming.tag, piece.value);
    }
  }
  std::fill(views_.begin(), views_.end(), KvBlockView{});
  std::int64_t index = 0;
  for (const BlockRange& range : partition_.ranges_of(comm_.rank())) {
    for (std::int64_t b = range.first.value; b < range.end(); ++b) {
      views_[static_cast<std::size_t>(b)] = local.view(index++);
    }
  }
  for (const SinkTree& tree : plan_.sinks) {
    if (tree.parent >= 0) continue;  // forwarded when it arrives
    for (const int child : tree.children) {
      send(pieces_of(local, tree.blocks.ranges), child, sink_tag(tree));
    }
  }
  for (const Share& share : plan_.sends) {
    send(pieces_of(local, share.ranges), share.peer, kShareTag);
  }
}

void KvExchange::publish(const Incoming& incoming) {
  std::int64_t index = 0;
  for (const BlockRange& range : incoming.ranges) {
    for (std::int64_t b = range.first.value; b < range.end(); ++b) {
      views_[static_cast<std::size_t>(b)] = incoming.blocks.view(index++);
    }
  }
}

void KvExchange::poll() {
  for (Incoming& incoming : incoming_) {
    if (incoming.arrived || !incoming.requests.test()) continue;
    incoming.arrived = true;
    bytes_received_ += incoming.requests.bytes_received();
    incoming.requests = mpi::RequestBatch();
    for (const int child : incoming.forward_to) send(pieces_of(incoming), child, incoming.tag);
    publish(incoming);
    news_ = true;
  }
  sends_.test();
}

void KvExchange::wait_for_arrival() {
  for (poll(); !take_news(); poll()) std::this_thread::yield();
}

void KvExchange::finish() {
  while (!std::all_of(incoming_.begin(), incoming_.end(),
                      [](const Incoming& incoming) { return incoming.arrived; })) {
    wait_for_arrival();
  }
  sends_.wait();
  sends_ = mpi::RequestBatch();
}

std::int64_t KvExchange::buffer_bytes() const {
  std::int64_t bytes = 0;
  for (const Incoming& incoming : incoming_) bytes += incoming.blocks.bytes();
  return bytes;
}

}  // namespace powerprefill
