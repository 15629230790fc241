#include "kv/kv_exchange.hpp"

#include <algorithm>
#include <thread>
#include <utility>

namespace powerprefill {

namespace {
// Messages of one tag between a pair of ranks arrive in the order in which they were sent, so
// layers need no tags. Sink trees do, one each: a rank forwards what arrives first, and may be the
// parent of the same child in several trees.
constexpr int kShareTag = 0;
int sink_tag(const SinkTree& tree) {
  return 1 + tree.piece;
}
}  // namespace

KvExchange::KvExchange(const mpi::Communicator& comm, const ExchangePlan& plan,
                       const Partition& partition, const KvShape& shape, Transfer transfer)
    : comm_(comm),
      plan_(plan),
      partition_(partition),
      transfer_(transfer),
      views_(static_cast<std::size_t>(partition.end_block())) {
  std::int64_t largest = 0;
  for (const Share& share : plan.receives) {
    shares_.push_back({share.peer, kShareTag, share.ranges, {}, nullptr, {}, false});
    largest = std::max(largest, share.blocks());
  }
  for (std::size_t i = 0; i < std::min(kSharesInFlight, shares_.size()); ++i) {
    slots_.emplace_back(shape, largest);
  }
  for (const SinkTree& tree : plan.sinks) {
    if (tree.parent < 0) continue;
    sinks_.push_back(
        {tree.parent, sink_tag(tree), tree.blocks.ranges, tree.children, nullptr, {}, false});
    sink_blocks_.emplace_back(shape, tree.blocks.blocks());
  }
  for (std::size_t i = 0; i < sinks_.size(); ++i) sinks_[i].blocks = &sink_blocks_[i];
}

std::vector<KvSpan> KvExchange::spans_of(Incoming& incoming) const {
  std::vector<KvSpan> spans;
  std::int64_t offset = 0;
  for (const BlockRange& range : incoming.ranges) {
    spans.push_back(incoming.blocks->span(offset, range.count));
    offset += range.count;
  }
  return spans;
}

std::vector<KvSpan> KvExchange::spans_of(KvBlocks& local,
                                         const std::vector<BlockRange>& ranges) const {
  std::vector<KvSpan> spans;
  for (const BlockRange& range : ranges) {
    const std::int64_t first = partition_.local(range.first).value;
    spans.push_back(local.span(first, range.count));
  }
  return spans;
}

void KvExchange::send(const std::vector<KvSpan>& spans, int to, int tag) {
  for (const KvSpan& span : spans) {
    sends_.send(comm_, to, tag, span.key);
    sends_.send(comm_, to, tag, span.value);
  }
}

void KvExchange::start(KvBlocks& local) {
  arrivals_ = false;
  requested_ = 0;
  released_ = 0;
  // First: with Transfer::none a request is answered at once.
  std::fill(views_.begin(), views_.end(), KvBlockView{});
  // Receives before sends: what arrives finds its place, and MPI need not keep it.
  for (Incoming& sink : sinks_) request(sink);
  release_above(partition_.end_block());  // releases nothing, requests the first shares
  std::int64_t index = 0;
  for (const BlockRange& range : partition_.ranges_of(comm_.rank())) {
    for (std::int64_t b = range.first.value; b < range.end(); ++b) {
      views_[static_cast<std::size_t>(b)] = local.view(index++);
    }
  }
  if (transfer_ == Transfer::none) return;
  for (const SinkTree& tree : plan_.sinks) {
    if (tree.parent >= 0) continue;  // forwarded when it arrives
    for (const int child : tree.children) {
      send(spans_of(local, tree.blocks.ranges), child, sink_tag(tree));
    }
  }
  for (const Share& share : plan_.sends) {
    send(spans_of(local, share.ranges), share.peer, kShareTag);
  }
  while (transfer_ == Transfer::blocking && is_missing()) poll();
}

// Whether something that was asked for is not here.
bool KvExchange::is_missing() const {
  const auto missing = [](const Incoming& incoming) { return !incoming.arrived; };
  return std::any_of(shares_.begin() + static_cast<std::ptrdiff_t>(released_),
                     shares_.begin() + static_cast<std::ptrdiff_t>(requested_), missing) ||
         std::any_of(sinks_.begin(), sinks_.end(), missing);
}

void KvExchange::request(Incoming& incoming) {
  if (transfer_ == Transfer::none) {
    incoming.arrived = arrivals_ = true;
    publish(incoming);
    return;
  }
  incoming.arrived = false;
  for (const KvSpan& span : spans_of(incoming)) {
    incoming.requests.receive(comm_, incoming.from, incoming.tag, span.key);
    incoming.requests.receive(comm_, incoming.from, incoming.tag, span.value);
  }
}

void KvExchange::publish(const Incoming& incoming) {
  std::int64_t index = 0;
  for (const BlockRange& range : incoming.ranges) {
    for (std::int64_t b = range.first.value; b < range.end(); ++b) {
      views_[static_cast<std::size_t>(b)] = incoming.blocks->view(index++);
    }
  }
}

void KvExchange::release_above(std::int64_t block) {
  // A share that is still on its way keeps its slot, needed or not: MPI writes there.
  while (released_ < requested_ && shares_[released_].arrived &&
         shares_[released_].lowest() > block) {
    for (const BlockRange& range : shares_[released_].ranges) {
      std::fill_n(views_.begin() + range.first.value, range.count, KvBlockView{});
    }
    ++released_;
  }
  // In the order of the plan, which is the sender's, too: messages of one tag are told apart by it.
  while (requested_ < shares_.size() && requested_ - released_ < slots_.size()) {
    shares_[requested_].blocks = &slots_[requested_ % slots_.size()];
    request(shares_[requested_]);
    ++requested_;
  }
}

void KvExchange::poll() {
  const auto receive = [this](Incoming& incoming) {
    if (incoming.arrived || !incoming.requests.test()) return;
    incoming.arrived = true;
    bytes_received_ += incoming.requests.bytes_received();
    incoming.requests = mpi::RequestBatch();
    // From where they lie: sink blocks stay until the next start(), and finish() waits for sends.
    for (const int child : incoming.forward_to) send(spans_of(incoming), child, incoming.tag);
    publish(incoming);
    arrivals_ = true;
  };
  for (std::size_t i = released_; i < requested_; ++i) receive(shares_[i]);
  for (Incoming& sink : sinks_) {
    if (!sink.requests.is_empty()) receive(sink);
  }
  sends_.test();
}

void KvExchange::wait_for_arrival() {
  // Not a wait for one message: while this rank waits, others may wait for a sink that it forwards.
  for (poll(); !take_arrivals(); poll()) std::this_thread::yield();
}

void KvExchange::finish() {
  // Shares that no query was left to need are received all the same: their senders wait for that.
  release_above(-1);
  while (released_ < shares_.size() || is_missing()) {
    wait_for_arrival();
    release_above(-1);
  }
  sends_.wait();
  sends_ = mpi::RequestBatch();
}

std::int64_t KvExchange::buffer_bytes() const {
  std::int64_t bytes = 0;
  for (const KvBlocks& blocks : slots_) bytes += blocks.bytes();
  for (const KvBlocks& blocks : sink_blocks_) bytes += blocks.bytes();
  return bytes;
}

}  // namespace powerprefill
