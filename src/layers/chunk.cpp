#include "layers/chunk.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/checked.hpp"
#include "layers/row_parallel.hpp"
#include "math/linear/linear.hpp"

namespace powerprefill {

bool takes_zigzag(const std::string& partition, const Schedule& schedule) {
  if (partition != "auto") return partition == "zigzag";
  return std::any_of(schedule.layers.begin(), schedule.layers.end(),
                     [](const PatternSpec& spec) { return spec.name == "full"; });
}

Partition chunk_partition(TokenRange tokens, std::int64_t block, int ranks, bool zigzag) {
  // The smallest number of blocks that fills whole tiles.
  const std::int64_t unit = std::lcm(block, kTileTokens) / block;
  return zigzag ? Partition::zigzag(tokens, block, ranks, unit)
                : Partition::contiguous(tokens, block, ranks, unit);
}

std::int64_t end_of_chunk(std::int64_t begin, std::int64_t chunk_tokens, std::int64_t block,
                          std::int64_t end) {
  return std::min(end, (begin + chunk_tokens) / block * block);
}

Chunk::Chunk(const Context& context, std::span<const std::int32_t> tokens, std::int64_t begin,
             PastSource past)
    : context_(context),
      tokens_(tokens),
      past_(std::move(past)),
      partition_(chunk_partition({begin, static_cast<std::int64_t>(tokens.size())},
                                 context.schedule.block, context.world.size(), context.zigzag)) {
  plan_patterns();
  const std::int64_t blocks = partition_.blocks_of(context.world.rank());
  for (KvBlocks& kv : kv_) kv = KvBlocks(context.kv_shape, blocks);
  forward_.emplace(LayerForward::Context{.config = context.model.config,
                                         .weights = context.model.weights,
                                         .partition = partition_,
                                         .rank = context.world.rank(),
                                         .kv_shape = context.kv_shape,
                                         .pool = *context.model.pool,
                                         .zones = context.zones,
                                         .poll = [this] {
                                           for (PatternExchange& e : patterns_) e.exchange->poll();
                                         }});
  std::size_t most = 0;
  for (const PatternExchange& entry : patterns_) most = std::max(most, entry.past.size());
  if (most > 0) {
    past_stream_.emplace(past_, context.kv_shape, partition_.first_block(),
                         static_cast<std::int64_t>(most), kPastBudget, context.past_row);
  }
}

void Chunk::plan_patterns() {
  for (const PatternSpec& spec : context_.schedule.layers) {
    if (std::any_of(patterns_.begin(), patterns_.end(),
                    [&](const PatternExchange& e) { return e.spec == spec; })) {
      continue;
    }
    PatternExchange entry;
    entry.spec = spec;
    entry.pattern = make_pattern(spec);
    entry.plan = make_exchange_plan(*entry.pattern, partition_, context_.world.rank());
    std::vector<bool> needed(static_cast<std::size_t>(partition_.first_block()), false);
    for (const BlockRange& range : partition_.ranges_of(context_.world.rank())) {
      for (std::int64_t query = range.first.value; query < range.end(); ++query) {
        for (const std::int64_t key : entry.pattern->key_blocks(query)) {
          if (key < partition_.first_block()) needed[static_cast<std::size_t>(key)] = true;
        }
      }
    }
    for (std::int64_t block = partition_.first_block() - 1; block >= 0; --block) {
      if (needed[static_cast<std::size_t>(block)]) entry.past.push_back(block);
    }
    patterns_.push_back(std::move(entry));
  }
  for (PatternExchange& entry : patterns_) {  // the plans have found their final place
    entry.exchange = std::make_unique<KvExchange>(context_.world, entry.plan, partition_,
                                                  context_.kv_shape, context_.transfer);
  }
}

Chunk::PatternExchange& Chunk::exchange_of(std::int64_t layer) {
  const PatternSpec& spec = context_.schedule.layers[static_cast<std::size_t>(layer)];
  return *std::find_if(patterns_.begin(), patterns_.end(),
                       [&](const PatternExchange& e) { return e.spec == spec; });
}

void Chunk::read_ahead(std::int64_t layer) {
  if (past_stream_ && layer < context_.model.config.layers) {
    past_stream_->begin(layer, exchange_of(layer).past);
  }
}

// The rows of the chunk's first block that are past.
void Chunk::read_first_block(std::int64_t layer, KvBlocks& kv) {
  const GlobalBlock first{partition_.first_block()};
  const std::int64_t rows = partition_.first_new_token(first) - partition_.first_token(first);
  if (rows == 0 || partition_.owner(first) != context_.world.rank()) return;
  const auto bytes = static_cast<std::size_t>(rows * context_.kv_shape.row_bytes());
  const std::int64_t local = partition_.local(first).value;
  past_.read_block(layer, KvPart::key, first.value, kv.keys(local, 1).first(bytes));
  past_.read_block(layer, KvPart::value, first.value, kv.values(local, 1).first(bytes));
}

bool Chunk::run(const Sink& sink) {
  const std::int64_t layers = context_.model.config.layers;
  read_ahead(0);
  forward_->embed(tokens_);
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    KvBlocks& kv = kv_[layer % 2];
    if (layer >= 2) {
      const ZoneTimer timer(context_.zones, Zone::cache_wait);
      sink.wait(kv);
    }
    const auto project = [&] {
      read_first_block(layer, kv);
      forward_->project_kv(layer, kv);
    };
    // A value beyond f16 is likely enough that the ranks agree on it in every layer.
    if (context_.kv_shape.dtype == DType::f16) {
      context_.world.agree(project);
    } else {
      project();
    }
    PatternExchange& current = exchange_of(layer);
    current.exchange->start(kv);
    ++current.layers;
    sink.take(layer, forward_->local(), kv);
    forward_->project_q(layer);
    forward_->attend(*current.pattern, *current.exchange, past_stream_ ? &*past_stream_ : nullptr);
    read_ahead(layer + 1);
    forward_->feed_forward(layer);
    {
      const ZoneTimer timer(context_.zones, Zone::exchange_wait);
      current.exchange->finish();
    }
    if (!sink.goes_on(layer + 1)) return false;
  }
  return true;
}

Chunk::Last Chunk::last() {
  const ZoneTimer timer(context_.zones, Zone::logits);
  const ModelConfig& config = context_.model.config;
  Last last;
  last.hidden.resize(static_cast<std::size_t>(config.hidden));
  last.logits.resize(static_cast<std::size_t>(config.vocabulary));
  const int owner = partition_.owner(GlobalBlock{partition_.end_block() - 1});
  if (context_.world.rank() == owner) {
    forward_->final_hidden(partition_.tokens().end - 1, last.hidden);
  }
  context_.world.broadcast(std::as_writable_bytes(std::span(last.hidden)), owner);
  apply_linear_row_split(
      context_.world, *context_.model.pool,
      {context_.model.weights.output_head(), {}, config.hidden, config.vocabulary},
      last.hidden.data(), last.logits);
  context_.world.agree([&] {
    if (std::all_of(last.logits.begin(), last.logits.end(),
                    [](float v) { return std::isfinite(v); }))
      return;
    throw Error(ErrorCode::input,
                "the logits after the prompt are not finite numbers; check the checkpoint");
  });
  return last;
}

std::span<const float> Chunk::hidden_rows() {
  const std::int64_t e = context_.model.config.hidden;
  std::int64_t rows = 0;
  for (const RowRun& run : forward_->local().runs())
    rows += run.end_token - run.first_block_token();
  hidden_rows_ = AlignedBuffer<float>(checked_mul(rows, e));
  std::int64_t at = 0;
  for (const RowRun& run : forward_->local().runs()) {
    const std::int64_t old_rows = run.begin_token - run.first_block_token();
    if (old_rows > 0) {
      past_.read_hidden(run.blocks.first.value,
                        hidden_rows_.span().subspan(static_cast<std::size_t>(at * e),
                                                    static_cast<std::size_t>(old_rows * e)));
      at += old_rows;
    }
    for (std::int64_t p = run.begin_token; p < run.end_token; ++p, ++at) {
      forward_->final_hidden(p, hidden_rows_.span().subspan(static_cast<std::size_t>(at * e),
                                                            static_cast<std::size_t>(e)));
    }
  }
  return hidden_rows_.span();
}

std::int64_t Chunk::bytes() const {
  std::int64_t bytes = forward_->bytes() + kv_[0].bytes() + kv_[1].bytes();
  for (const PatternExchange& entry : patterns_) bytes += entry.exchange->buffer_bytes();
  return bytes + (past_stream_ ? past_stream_->buffer_bytes() : 0) +
         static_cast<std::int64_t>(hidden_rows_.bytes());
}

std::int64_t Chunk::bytes_received() const {
  std::int64_t bytes = 0;
  for (const PatternExchange& entry : patterns_) bytes += entry.exchange->bytes_received();
  return bytes;
}

std::int64_t Chunk::bytes_planned() const {
  std::int64_t bytes = 0;
  for (const PatternExchange& entry : patterns_) {
    bytes += entry.layers * entry.plan.received_blocks() * 2 * context_.kv_shape.block_bytes();
  }
  return bytes;
}

std::vector<int> Chunk::peers() const {
  std::vector<int> peers;
  for (const PatternExchange& entry : patterns_) {
    for (const Share& share : entry.plan.receives) peers.push_back(share.peer);
  }
  std::sort(peers.begin(), peers.end());
  peers.erase(std::unique(peers.begin(), peers.end()), peers.end());
  return peers;
}

}  // namespace powerprefill
