#include "layers/chunk_attention.hpp"

#include <algorithm>
#include <thread>
#include <utility>

#include "base/checked.hpp"
#include "plan/chunks.hpp"

namespace powerprefill {

namespace {

// The layers of a model have heads of one shape: their cache has.
AttentionShape shape_of(const Model::State& model, std::int64_t block) {
  const LayerRecipe& layer = model.config.recipe.layers.front();
  return {.group_heads = layer.group(),
          .block = block,
          .head_dim = layer.head_dim,
          .compute = model.compute,
          .scale = layer.score_scale};
}

}  // namespace

ChunkAttention::ChunkAttention(const ChunkContext& context, const Partition& partition,
                               const LocalRows& rows, const PastSource& past)
    : context_(context),
      partition_(partition),
      local_(rows),
      past_(past),
      attention_(partition, context.model.world().rank(),
                 shape_of(context.model, partition.block()), context.kv_shape,
                 context.model.pool->threads()) {
  plan_patterns();
  const std::int64_t blocks = partition_.blocks_of(context.model.world().rank());
  for (KvBlocks& kv : kv_) kv = KvBlocks(context.kv_shape, blocks);
  std::size_t most = 0;
  for (const LayerPattern& pattern : patterns_) most = std::max(most, pattern.past.size());
  if (most > 0) {
    past_stream_.emplace(past_, context.kv_shape, partition_.first_block(),
                         static_cast<std::int64_t>(most), kPastBudget, context.past_row);
  }
}

void ChunkAttention::plan_patterns() {
  const int rank = context_.model.world().rank();
  for (const PatternSpec& spec : context_.schedule.layers) {
    if (std::any_of(patterns_.begin(), patterns_.end(),
                    [&](const LayerPattern& known) { return known.spec == spec; })) {
      continue;
    }
    const auto pattern = make_pattern(spec);
    LayerPattern entry;
    entry.spec = spec;
    entry.selection = BlockSelection::by_pattern(*pattern, partition_, rank);
    entry.plan = make_exchange_plan(*pattern, partition_, rank);
    entry.past = entry.selection.needed_below(partition_.first_block());
    patterns_.push_back(std::move(entry));
  }
  // Not in the loop above: an exchange keeps a reference to its plan, which the vector moved.
  for (LayerPattern& entry : patterns_) {
    entry.exchange = std::make_unique<KvExchange>(context_.model.world(), entry.plan, partition_,
                                                  context_.kv_shape, context_.transfer);
  }
}

ChunkAttention::LayerPattern& ChunkAttention::pattern_of(std::int64_t layer) {
  const PatternSpec& spec = context_.schedule.layers[static_cast<std::size_t>(layer)];
  return *std::find_if(patterns_.begin(), patterns_.end(),
                       [&](const LayerPattern& entry) { return entry.spec == spec; });
}

void ChunkAttention::start(ChunkOutput* output, GoesOn goes_on) {
  output_ = output;
  goes_on_ = std::move(goes_on);
  read_ahead(0);
}

void ChunkAttention::poll() {
  for (LayerPattern& entry : patterns_) entry.exchange->poll();
}

void ChunkAttention::read_ahead(std::int64_t layer) {
  if (past_stream_ && layer < std::ssize(context_.model.config.recipe.layers)) {
    past_stream_->begin(layer, pattern_of(layer).past);
  }
}

// The rows of the chunk's first block that are past.
void ChunkAttention::read_first_block(std::int64_t layer, KvBlocks& kv) {
  const GlobalBlock first{partition_.first_block()};
  const std::int64_t rows = partition_.first_new_token(first) - partition_.first_token(first);
  if (rows == 0 || partition_.owner(first) != context_.model.world().rank()) return;
  const auto bytes = static_cast<std::size_t>(rows * context_.kv_shape.row_bytes());
  const KvSpan block = kv.span(partition_.local(first).value, 1).first(bytes);
  past_.read_block(layer, KvPart::key, first.value, block.key);
  past_.read_block(layer, KvPart::value, first.value, block.value);
}

KvSpan ChunkAttention::key_value(const Row& row) {
  const std::int64_t bytes = context_.kv_shape.row_bytes();
  return rows_.subspan(static_cast<std::size_t>(row.index * bytes),
                       static_cast<std::size_t>(bytes));
}

void ChunkAttention::take_keys(std::int64_t layer, const std::function<void()>& fill) {
  KvBlocks& kv = kv_[layer % 2];
  if (layer >= 2 && output_ != nullptr) {
    const ZoneTimer timer(context_.zones, Zone::cache_wait);
    output_->wait(kv);
  }
  rows_ = kv.span(0, local_.blocks());
  const auto read_and_fill = [&] {
    read_first_block(layer, kv);
    fill();
  };
  // A value beyond f16 is likely enough that the ranks agree on it in every layer.
  if (context_.kv_shape.dtype == DType::f16) {
    context_.model.world().agree(read_and_fill);
  } else {
    read_and_fill();
  }
  LayerPattern& current = pattern_of(layer);
  current.exchange->start(kv);
  ++current.layers;
  if (output_ != nullptr) output_->take(layer, local_, kv);
}

void ChunkAttention::set_query(std::int64_t head, const Row& row, const float* query) {
  const std::int64_t block = local_.block();
  store_operands(context_.model.compute, query, context_.kv_shape.head_dim,
                 attention_.query(head, row.index / block, row.index % block));
}

void ChunkAttention::attend(std::int64_t layer) {
  LayerPattern& current = pattern_of(layer);
  KvExchange& exchange = *current.exchange;
  PastStream* past = past_stream_ ? &*past_stream_ : nullptr;
  const std::int64_t first = partition_.first_block();
  const auto find = [&](std::int64_t block) {
    return block < first ? past->find(block) : exchange.find(block);
  };
  const auto take_arrivals = [&] {
    const bool arrived = exchange.take_arrivals();
    return (past != nullptr && past->poll()) || arrived;
  };
  {
    const ZoneTimer timer(context_.zones, Zone::attention);
    attention_.begin(*context_.model.pool, current.selection);
  }
  while (!attention_.is_done()) {
    {
      const ZoneTimer timer(context_.zones, Zone::attention);
      attention_.advance(*context_.model.pool, find, [this] { poll(); });
    }
    const std::int64_t pending = attention_.highest_pending();
    exchange.release_above(pending);
    if (past != nullptr) past->release_above(pending);
    // What arrived during advance() is merged at once; otherwise wait.
    if (attention_.is_done() || take_arrivals()) continue;
    const ZoneTimer timer(context_.zones, pending < first ? Zone::past_wait : Zone::exchange_wait);
    for (exchange.poll(); !take_arrivals(); exchange.poll()) std::this_thread::yield();
  }
  // Its buffers are free from here on: the disk works while the feed-forward layer is computed.
  read_ahead(layer + 1);
}

void ChunkAttention::read_result(std::int64_t head, const Row& row, float* out) const {
  const std::int64_t block = local_.block();
  attention_.read_result(head, row.index / block, row.index % block, out);
}

bool ChunkAttention::finish(std::int64_t layer) {
  {
    const ZoneTimer timer(context_.zones, Zone::exchange_wait);
    pattern_of(layer).exchange->finish();
  }
  return goes_on_(layer + 1);
}

std::int64_t ChunkAttention::bytes() const {
  std::int64_t bytes = attention_.bytes() + kv_[0].bytes() + kv_[1].bytes();
  for (const LayerPattern& entry : patterns_) bytes += entry.exchange->buffer_bytes();
  return bytes + (past_stream_ ? past_stream_->buffer_bytes() : 0);
}

std::int64_t ChunkAttention::bytes_received() const {
  std::int64_t bytes = 0;
  for (const LayerPattern& entry : patterns_) bytes += entry.exchange->bytes_received();
  return bytes;
}

std::int64_t ChunkAttention::bytes_planned() const {
  std::int64_t bytes = 0;
  for (const LayerPattern& entry : patterns_) {
    bytes += entry.layers * entry.plan.received_blocks() * 2 * context_.kv_shape.block_bytes();
  }
  return bytes;
}

std::vector<int> ChunkAttention::peers() const {
  std::vector<int> peers;
  for (const LayerPattern& entry : patterns_) {
    for (const Share& share : entry.plan.receives) peers.push_back(share.peer);
  }
  std::sort(peers.begin(), peers.end());
  peers.erase(std::unique(peers.begin(), peers.end()), peers.end());
  return peers;
}

}  // namespace powerprefill
