#include "layers/layer_forward.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <limits>
#include <thread>

#include "base/checked.hpp"
#include "math/linear/linear.hpp"
#include "math/rows/convert.hpp"
#include "math/rows/row_ops.hpp"
#include "model/rope_frequencies.hpp"

namespace powerprefill {

namespace {

constexpr std::int64_t kRowsPerTask = 32;
static_assert(kTileTokens % kRowsPerTask == 0);

// The first of the positions that threads report, in any order.
class FirstPosition {
 public:
  void add(std::int64_t position) {
    std::int64_t seen = position_;
    while (position < seen && !position_.compare_exchange_weak(seen, position)) {
    }
  }
  bool is_none() const { return position_ == kNone; }
  std::int64_t get() const { return position_; }

 private:
  static constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();
  std::atomic<std::int64_t> position_ = kNone;
};

std::int64_t widest_projection(const ModelConfig& config) {
  return std::max(2 * config.kv_heads * config.head_dim, config.heads * config.head_dim);
}

}  // namespace

LayerForward::LayerForward(const Context& context)
    : context_(context),
      local_(context.partition, context.rank),
      attention_(context.partition, context.rank,
                 {.group_heads = context.config.heads / context.config.kv_heads,
                  .block = context.partition.block(),
                  .head_dim = context.config.head_dim,
                  .compute = context.weights.compute()},
                 context.kv_shape, context.pool.threads()),
      // Two tiles per thread leave no thread idle at the end of a wave for long.
      wave_tiles_(std::min<std::int64_t>(
          local_.tiles(), context.pool.threads() > 1 ? 2 * context.pool.threads() : 1)),
      hidden_(checked_mul(local_.rows(), context.config.hidden)),
      normed_(checked_mul(wave_tiles_ * kTileTokens,
                          context.config.hidden * operand_bytes(context.weights.compute()))),
      projected_(checked_mul(wave_tiles_ * kTileTokens, widest_projection(context.config))),
      attended_(
          checked_mul(wave_tiles_ * kTileTokens, context.config.heads * context.config.head_dim *
                                                     operand_bytes(context.weights.compute()))),
      activated_(
          checked_mul(wave_tiles_ * kTileTokens,
                      context.config.feed_forward * operand_bytes(context.weights.compute()))) {
  const RopeFrequencies frequencies = rope_frequencies(context.config);
  for (const RowRun& run : local_.runs()) {
    rope_.emplace_back(context.pool, frequencies.inv_freq, frequencies.attention_scaling,
                       run.begin_token, run.end_token - run.begin_token);
  }
}

void LayerForward::embed(std::span<const std::int32_t> tokens) {
  const ZoneTimer timer(context_.zones, Zone::embed);
  const std::int64_t e = context_.config.hidden;
  const auto table = context_.weights.embedding();
  run_rows(0, local_.tiles(), [&](std::int64_t row, std::int64_t position, std::int64_t) {
    const std::int64_t id = tokens[static_cast<std::size_t>(position)];
    std::copy_n(table.data() + id * e, e, hidden_.data() + row * e);
  });
}

void LayerForward::project_kv(std::int64_t layer, KvBlocks& kv) {
  const LayerWeights& weights = context_.weights.layer(layer);
  const ModelConfig& config = context_.config;
  const std::int64_t width = 2 * config.kv_heads * config.head_dim;
  const Linear linear = {weights.key_value, weights.key_value_bias, config.hidden, width};
  const std::int64_t row_bytes = context_.kv_shape.row_bytes();
  std::byte* keys = kv.keys(0, local_.blocks()).data();
  std::byte* values = kv.values(0, local_.blocks()).data();
  FirstPosition bad_position;
  for_each_wave([&](std::int64_t tile, std::int64_t tiles) {
    project(tile, tiles, weights.input_norm, linear);
    const ZoneTimer timer(context_.zones, Zone::rope);
    run_rows(tile, tiles, [&](std::int64_t row, std::int64_t position, std::int64_t block_row) {
      bool finite = true;
      store_kv_row(weights, position, projected_.data() + row * width, keys + block_row * row_bytes,
                   values + block_row * row_bytes, finite);
      if (!finite) bad_position.add(position);
    });
  });
  if (!bad_position.is_none()) {
    const bool f16 = context_.kv_shape.dtype == DType::f16;
    throw Error(ErrorCode::input,
                fmt::format("layer {}: a key or value of token {} cannot be stored as {}{}", layer,
                            bad_position.get(), name_of(context_.kv_shape.dtype),
                            f16 ? " (it exceeds 65504); use --kv-dtype bf16"
                                : ": it is not a finite number; check the checkpoint"));
  }
}

void LayerForward::store_kv_row(const LayerWeights& weights, std::int64_t position,
                                const float* projected, std::byte* key, std::byte* value,
                                bool& finite) const {
  const std::int64_t d = context_.config.head_dim;
  const std::int64_t heads = context_.config.kv_heads;
  const auto head_bytes = d * static_cast<std::int64_t>(bytes_of(context_.kv_shape.dtype));
  std::array<float, kLargestHead> turned;
  for (std::int64_t g = 0; g < heads; ++g) {
    turn(weights.k_norm, position, projected + g * d, turned.data());
    finite = round_to(context_.kv_shape.dtype, {turned.data(), static_cast<std::size_t>(d)},
                      key + g * head_bytes) &&
             finite;
  }
  finite = round_to(context_.kv_shape.dtype,
                    {projected + heads * d, static_cast<std::size_t>(heads * d)}, value) &&
           finite;
}

void LayerForward::project_q(std::int64_t layer) {
  const LayerWeights& weights = context_.weights.layer(layer);
  const ModelConfig& config = context_.config;
  const std::int64_t d = config.head_dim;
  const std::int64_t width = config.heads * d;
  const Linear linear = {weights.query, weights.query_bias, config.hidden, width};
  const std::int64_t block = local_.block();
  FirstPosition bad_position;
  for_each_wave([&](std::int64_t tile, std::int64_t tiles) {
    project(tile, tiles, weights.input_norm, linear);
    const ZoneTimer timer(context_.zones, Zone::rope);
    run_rows(tile, tiles, [&](std::int64_t row, std::int64_t position, std::int64_t block_row) {
      std::array<float, kLargestHead> turned;
      for (std::int64_t h = 0; h < config.heads; ++h) {
        turn(weights.q_norm, position, projected_.data() + row * width + h * d, turned.data());
        const std::span<const float> query(turned.data(), static_cast<std::size_t>(d));
        if (!are_finite(DType::f32, std::as_bytes(query))) bad_position.add(position);
        store_operands(compute(), turned.data(), d,
                       attention_.query(h, block_row / block, block_row % block));
      }
    });
  });
  if (bad_position.is_none()) return;
  throw Error(ErrorCode::input,
              fmt::format("layer {}: a query of token {} is not a finite number; check the "
                          "checkpoint",
                          layer, bad_position.get()));
}

void LayerForward::attend(const Pattern& pattern, KvExchange& exchange, PastStream* past) {
  const std::int64_t first = context_.partition.first_block();
  const auto find = [&](std::int64_t block) {
    return block < first ? past->find(block) : exchange.find(block);
  };
  const auto take_news = [&] {
    const bool arrived = exchange.take_news();
    return (past != nullptr && past->poll()) || arrived;
  };
  {
    const ZoneTimer timer(context_.zones, Zone::attention);
    attention_.begin(context_.pool, pattern);
  }
  while (!attention_.is_done()) {
    {
      const ZoneTimer timer(context_.zones, Zone::attention);
      attention_.advance(context_.pool, find, context_.poll);
    }
    const std::int64_t pending = attention_.highest_pending();
    exchange.release_above(pending);
    if (past != nullptr) past->release_above(pending);
    // What arrived during advance() is merged at once; otherwise wait.
    if (attention_.is_done() || take_news()) continue;
    const ZoneTimer timer(context_.zones, pending < first ? Zone::past_wait : Zone::exchange_wait);
    for (exchange.poll(); !take_news(); exchange.poll()) std::this_thread::yield();
  }
}

void LayerForward::feed_forward(std::int64_t layer) {
  const LayerWeights& weights = context_.weights.layer(layer);
  const ModelConfig& config = context_.config;
  const std::int64_t e = config.hidden;
  const std::int64_t f = config.feed_forward;
  const std::int64_t d = config.head_dim;
  const std::int64_t width = config.heads * d;
  for_each_wave([&](std::int64_t tile, std::int64_t tiles) {
    float* hidden = hidden_.data() + tile * kTileTokens * e;
    {
      const ZoneTimer timer(context_.zones, Zone::attention_out);
      clear_other_rows(tile, tiles, width);
      run_rows(tile, tiles, [&](std::int64_t row, std::int64_t, std::int64_t block_row) {
        std::array<float, kLargestHead> result;
        std::byte* out = operand_row(attended_, row, width);
        for (std::int64_t h = 0; h < config.heads; ++h) {
          attention_.read_result(h, block_row / local_.block(), block_row % local_.block(),
                                 result.data());
          store_operands(compute(), result.data(), d, out + h * d * operand_bytes(compute()));
        }
      });
      apply_linear(context_.pool, {weights.attention_out, {}, width, e}, tiles,
                   {attended_.data(), width}, {hidden, e}, true, context_.poll);
    }
    normalise(tile, tiles, weights.post_norm);
    const ZoneTimer timer(context_.zones, Zone::mlp);
    apply_gated(context_.pool, {weights.gate, weights.up, e, f}, tiles, {normed_.data(), e},
                activated_.data(), context_.poll);
    apply_linear(context_.pool, {weights.down, {}, f, e}, tiles, {activated_.data(), f},
                 {hidden, e}, true, context_.poll);
  });
}

void LayerForward::final_hidden(std::int64_t position, std::span<float> out) const {
  for (const RowRun& run : local_.runs()) {
    if (position < run.begin_token || position >= run.end_token) continue;
    const std::int64_t row = run.first_row + position - run.first_token;
    rms_norm(hidden_.data() + row * context_.config.hidden, context_.weights.final_norm().data(),
             context_.config.norm_epsilon, context_.config.hidden, out.data());
    return;
  }
  throw Error(ErrorCode::internal, fmt::format("token {} is not on this rank", position));
}

std::int64_t LayerForward::bytes() const {
  std::int64_t bytes = attention_.bytes();
  for (const RopeTable& table : rope_) bytes += table.bytes();
  return bytes + static_cast<std::int64_t>(hidden_.bytes() + normed_.bytes() + projected_.bytes() +
                                           attended_.bytes() + activated_.bytes());
}

void LayerForward::for_each_wave(
    const std::function<void(std::int64_t tile, std::int64_t tiles)>& body) {
  for (std::int64_t tile = 0; tile < local_.tiles(); tile += wave_tiles_) {
    body(tile, std::min(wave_tiles_, local_.tiles() - tile));
  }
}

std::byte* LayerForward::operand_row(AlignedBuffer<std::byte>& buffer, std::int64_t row,
                                     std::int64_t width) const {
  return buffer.data() + row * width * operand_bytes(compute());
}

// RMSNorm of the hidden states of a wave into normed_.
void LayerForward::normalise(std::int64_t tile, std::int64_t tiles, std::span<const float> weight) {
  const ZoneTimer timer(context_.zones, Zone::norm);
  const std::int64_t e = context_.config.hidden;
  const float* hidden = hidden_.data() + tile * kTileTokens * e;
  context_.pool.run(tiles * kTileTokens / kRowsPerTask, [&](std::int64_t task, int) {
    std::vector<float> scratch(compute() == Compute::f32 ? 0 : static_cast<std::size_t>(e));
    for (std::int64_t r = task * kRowsPerTask; r < (task + 1) * kRowsPerTask; ++r) {
      std::byte* out = operand_row(normed_, r, e);
      float* row = scratch.empty() ? reinterpret_cast<float*>(out) : scratch.data();
      rms_norm(hidden + r * e, weight.data(), context_.config.norm_epsilon, e, row);
      store_operands(compute(), row, e, out);
    }
  });
}

// A linear layer over the normed hidden states of a wave into projected_.
void LayerForward::project(std::int64_t tile, std::int64_t tiles, std::span<const float> norm,
                           const Linear& linear) {
  normalise(tile, tiles, norm);
  const ZoneTimer timer(context_.zones, Zone::qkv);
  apply_linear(context_.pool, linear, tiles, {normed_.data(), linear.inputs},
               {projected_.data(), linear.outputs}, false, context_.poll);
}

// Zeroes the rows of attended_ whose tokens are not this rank's, where a wave before had its own.
void LayerForward::clear_other_rows(std::int64_t tile, std::int64_t tiles, std::int64_t width) {
  const auto clear = [&](std::int64_t begin, std::int64_t end) {
    std::memset(operand_row(attended_, begin, width), 0,
                static_cast<std::size_t>((end - begin) * width * operand_bytes(compute())));
  };
  const std::int64_t first_row = tile * kTileTokens;
  for (std::int64_t t = 0; t < tiles; ++t) {
    const LocalRows::TileTokens owned = local_.tokens_of_tile(tile + t);
    clear(t * kTileTokens, owned.begin_row - first_row);
    clear(owned.end_row - first_row, (t + 1) * kTileTokens);
  }
}

// body(row of the wave's buffers, position, row when blocks lie end to end) for all owned tokens of
// the tiles [tile, tile + tiles).
void LayerForward::run_rows(std::int64_t tile, std::int64_t tiles,
                            const std::function<void(std::int64_t row, std::int64_t position,
                                                     std::int64_t block_row)>& body) {
  constexpr std::int64_t tasks_per_tile = kTileTokens / kRowsPerTask;
  context_.pool.run(tiles * tasks_per_tile, [&](std::int64_t task, int) {
    const LocalRows::TileTokens owned = local_.tokens_of_tile(tile + task / tasks_per_tile);
    const std::int64_t first = tile * kTileTokens + task * kRowsPerTask;
    const std::int64_t begin = std::max(first, owned.begin_row);
    const std::int64_t end = std::min(first + kRowsPerTask, owned.end_row);
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t offset = row - owned.begin_row;
      body(row - tile * kTileTokens, owned.first_position + offset, owned.first_block_row + offset);
    }
  });
}

// Norm over one head if the model has it, then RoPE; `out` (D).
void LayerForward::turn(std::span<const float> norm, std::int64_t position, const float* head,
                        float* out) const {
  const std::int64_t d = context_.config.head_dim;
  if (!norm.empty()) {
    rms_norm(head, norm.data(), context_.config.norm_epsilon, d, out);
    head = out;
  }
  const RopeTable& rope = rope_at(position);
  rotate_pairs(head, rope.cosine(position), rope.sine(position), d, out);
}

const RopeTable& LayerForward::rope_at(std::int64_t position) const {
  std::size_t run = 0;
  while (position >= local_.runs()[run].end_token) ++run;
  return rope_[run];
}

}  // namespace powerprefill
