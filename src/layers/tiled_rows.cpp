#include "layers/tiled_rows.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/checked.hpp"
#include "math/rows/row_ops.hpp"

namespace powerprefill {

namespace {

constexpr std::int64_t kRowsPerTask = 32;
static_assert(kTileTokens % kRowsPerTask == 0);

template <typename Size>
std::int64_t widest(const ModelRecipe& recipe, const Size& size) {
  std::int64_t width = 0;
  for (const LayerRecipe& layer : recipe.layers) width = std::max(width, size(layer));
  return width;
}

std::int64_t heads_width(const ModelRecipe& recipe) {
  return widest(recipe, [](const LayerRecipe& l) { return l.heads * l.head_dim; });
}

std::int64_t widest_projection(const ModelRecipe& recipe) {
  return std::max(heads_width(recipe),
                  widest(recipe, [](const LayerRecipe& l) { return 2 * l.kv_heads * l.head_dim; }));
}

}  // namespace

TiledRows::TiledRows(const Context& context)
    : recipe_(context.recipe),
      compute_(context.compute),
      pool_(context.pool),
      zones_(context.zones),
      poll_(context.poll),
      local_(context.partition, context.rank),
      // Two tiles per thread leave no thread idle at the end of a wave for long.
      wave_tiles_(
          std::min<std::int64_t>(local_.tiles(), pool_.threads() > 1 ? 2 * pool_.threads() : 1)),
      hidden_(checked_mul(local_.rows(), recipe_.hidden)) {
  const std::int64_t rows = wave_tiles_ * kTileTokens;
  const std::int64_t operand = operand_bytes(compute_);
  normed_ = AlignedBuffer<std::byte>(checked_mul(rows, recipe_.hidden * operand));
  projected_ = AlignedBuffer<float>(checked_mul(rows, widest_projection(recipe_)));
  attended_ = AlignedBuffer<std::byte>(checked_mul(rows, heads_width(recipe_) * operand));
  activated_ = AlignedBuffer<std::byte>(checked_mul(
      rows, widest(recipe_, [](const LayerRecipe& l) { return l.feed_forward; }) * operand));
}

std::vector<TokenRange> TiledRows::positions() const {
  std::vector<TokenRange> positions;
  for (const RowRun& run : local_.runs()) positions.emplace_back(run.begin_token, run.end_token);
  return positions;
}

void TiledRows::set_hidden(
    const std::function<void(std::int64_t position, std::span<float> hidden)>& fill) {
  const std::int64_t e = recipe_.hidden;
  for_each_row({0, local_.tiles()}, [&](const Row& row, std::int64_t place) {
    fill(row.position, {hidden_.data() + place * e, static_cast<std::size_t>(e)});
  });
}

std::span<const float> TiledRows::hidden(std::int64_t position) const {
  for (const RowRun& run : local_.runs()) {
    if (position < run.begin_token || position >= run.end_token) continue;
    const std::int64_t row = run.first_row + position - run.first_token;
    return {hidden_.data() + row * recipe_.hidden, static_cast<std::size_t>(recipe_.hidden)};
  }
  throw Error(ErrorCode::internal, fmt::format("token {} is not on this rank", position));
}

void TiledRows::for_each_wave(const std::function<void()>& body) {
  for (std::int64_t tile = 0; tile < local_.tiles(); tile += wave_tiles_) {
    wave_ = {tile, std::min(wave_tiles_, local_.tiles() - tile)};
    body();
  }
}

void TiledRows::normalise(std::span<const float> weight, float epsilon) {
  const ZoneTimer timer(zones_, Zone::norm);
  const std::int64_t e = recipe_.hidden;
  const float* hidden = hidden_of_wave();
  pool_.run(wave_.count * kTileTokens / kRowsPerTask, [&](std::int64_t task, int) {
    // The norm is f32 whatever the operands are; those that are no f32 need a row to come from.
    std::vector<float> scratch(compute_ == Compute::f32 ? 0 : static_cast<std::size_t>(e));
    for (std::int64_t r = task * kRowsPerTask; r < (task + 1) * kRowsPerTask; ++r) {
      std::byte* out = operand_row(normed_, r, e);
      float* row = scratch.empty() ? reinterpret_cast<float*>(out) : scratch.data();
      rms_norm(hidden + r * e, weight.data(), epsilon, e, row);
      store_operands(compute_, row, e, out);
    }
  });
}

void TiledRows::project(const HeadProjection& projection, const ProjectedBody& body) {
  const Linear& linear = projection.linear;
  {
    const ZoneTimer timer(zones_, Zone::qkv);
    apply_linear(pool_, linear, wave_.count, {normed_.data(), linear.inputs},
                 {projected_.data(), linear.outputs}, false, poll_);
  }
  const ZoneTimer timer(zones_, Zone::rope);
  for_each_row(wave_, [&](const Row& row, std::int64_t place) {
    body(row, projected_.data() + place * linear.outputs);
  });
}

void TiledRows::add_heads(const Linear& linear, std::int64_t, const HeadReader& read) {
  const ZoneTimer timer(zones_, Zone::attention_out);
  const std::int64_t width = linear.inputs;
  // GEMM takes whole tiles: what a wave before left in rows of other ranks must not be a NaN.
  clear_other_rows(width);
  for_each_row(wave_, [&](const Row& row, std::int64_t place) {
    std::byte* out = operand_row(attended_, place, width);
    if (compute_ != Compute::bf16) {
      read(row, reinterpret_cast<float*>(out));
      store_operands(compute_, reinterpret_cast<float*>(out), width, out);
      return;
    }
    thread_local std::vector<float> heads;
    heads.resize(static_cast<std::size_t>(width));
    read(row, heads.data());
    store_operands(compute_, heads.data(), width, out);
  });
  apply_linear(pool_, linear, wave_.count, {attended_.data(), width},
               {hidden_of_wave(), linear.outputs}, true, poll_);
}

void TiledRows::add_feed_forward(const GatedLinear& gated, const Linear& down) {
  const ZoneTimer timer(zones_, Zone::mlp);
  apply_gated(pool_, gated, wave_.count, {normed_.data(), gated.inputs}, activated_.data(), poll_);
  apply_linear(pool_, down, wave_.count, {activated_.data(), down.inputs},
               {hidden_of_wave(), down.outputs}, true, poll_);
}

std::int64_t TiledRows::bytes() const {
  return static_cast<std::int64_t>(hidden_.bytes() + normed_.bytes() + projected_.bytes() +
                                   attended_.bytes() + activated_.bytes());
}

std::byte* TiledRows::operand_row(AlignedBuffer<std::byte>& buffer, std::int64_t row,
                                  std::int64_t width) const {
  return buffer.data() + row * width * operand_bytes(compute_);
}

// Zeroes the rows of attended_ whose tokens are not this rank's, where a wave before had its own.
void TiledRows::clear_other_rows(std::int64_t width) {
  const auto clear = [&](std::int64_t begin, std::int64_t end) {
    std::memset(operand_row(attended_, begin, width), 0,
                static_cast<std::size_t>((end - begin) * width * operand_bytes(compute_)));
  };
  const std::int64_t first_row = wave_.first * kTileTokens;
  for (std::int64_t t = 0; t < wave_.count; ++t) {
    const LocalRows::TileTokens owned = local_.tokens_of_tile(wave_.first + t);
    clear(t * kTileTokens, owned.begin_row - first_row);
    clear(owned.end_row - first_row, (t + 1) * kTileTokens);
  }
}

void TiledRows::for_each_row(const Tiles& tiles,
                             const std::function<void(const Row& row, std::int64_t place)>& body) {
  constexpr std::int64_t tasks_per_tile = kTileTokens / kRowsPerTask;
  pool_.run(tiles.count * tasks_per_tile, [&](std::int64_t task, int) {
    const LocalRows::TileTokens owned = local_.tokens_of_tile(tiles.first + task / tasks_per_tile);
    const std::int64_t first = tiles.first * kTileTokens + task * kRowsPerTask;
    const std::int64_t begin = std::max(first, owned.begin_row);
    const std::int64_t end = std::min(first + kRowsPerTask, owned.end_row);
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t offset = row - owned.begin_row;
      body({owned.first_position + offset, owned.first_block_row + offset},
           row - tiles.first * kTileTokens);
    }
  });
}

}  // namespace powerprefill
