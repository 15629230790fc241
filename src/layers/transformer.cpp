#include "layers/transformer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>

#include "math/attention/attention.hpp"
#include "math/rows/convert.hpp"
#include "math/rows/row_ops.hpp"

namespace powerprefill {

namespace {

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

}  // namespace

Transformer::Transformer(const ModelRecipe& recipe, const Weights& weights, ThreadPool& pool,
                         Rows& rows, ZoneSeconds& zones)
    : recipe_(recipe), weights_(weights), rows_(rows), zones_(zones), positions_(rows.positions()) {
  for (const RopeFrequencies& rope : recipe.ropes) {
    std::vector<RopeTable>& tables = tables_.emplace_back();
    for (const TokenRange& run : positions_) {
      tables.emplace_back(pool, rope.inv_freq, rope.attention_scaling, run.begin, run.count());
    }
  }
}

void Transformer::embed(std::span<const std::int32_t> ids, std::int64_t first) {
  const ZoneTimer timer(zones_, Zone::embed);
  rows_.set_hidden([&](std::int64_t position, std::span<float> hidden) {
    const auto embedding = weights_.embedding_of(ids[static_cast<std::size_t>(position - first)]);
    std::copy(embedding.begin(), embedding.end(), hidden.begin());
  });
}

bool Transformer::run(LayerAttention& attention) {
  for (std::int64_t layer = 0; layer < std::ssize(recipe_.layers); ++layer) {
    // Keys first: while they travel, the queries are computed.
    attention.take_keys(layer, [&] { keys_and_values(layer, attention); });
    queries(layer, attention);
    attention.attend(layer);
    add_to_hidden(layer, attention);
    if (!attention.finish(layer)) return false;
  }
  return true;
}

void Transformer::keys_and_values(std::int64_t layer, LayerAttention& attention) {
  const LayerRecipe& recipe = recipe_of(layer);
  const LayerWeights& weights = weights_.layer(layer);
  const std::int64_t d = recipe.head_dim;
  const std::int64_t width = recipe.kv_heads * d;
  const DType dtype = attention.kv_dtype();
  const auto head_bytes = d * static_cast<std::int64_t>(bytes_of(dtype));
  const Part heads = rows_.kv_heads(recipe.kv_heads);
  const HeadProjection projection = {
      .linear = {weights.key_value, weights.key_value_bias, recipe_.hidden, 2 * width},
      .kv_heads = recipe.kv_heads,
      .outputs_per_kv_head = d,
      .sections = 2};
  FirstPosition bad;
  rows_.for_each_wave([&] {
    rows_.normalise(weights.input_norm, recipe.norm_epsilon);
    rows_.project(projection, [&](const Row& row, const float* projected) {
      const KvSpan to = attention.key_value(row);
      bool finite = true;
      for (std::int64_t g = heads.begin; g < heads.end; ++g) {
        std::array<float, kLargestHead> turned;
        const std::span<const float> key(turned.data(), static_cast<std::size_t>(d));
        const std::span<const float> value(projected + width + g * d, key.size());
        turn(recipe, weights.k_norm, row.position, projected + g * d, turned.data());
        finite = round_to(dtype, key, to.key.data() + g * head_bytes) && finite;
        finite = round_to(dtype, value, to.value.data() + g * head_bytes) && finite;
      }
      if (!finite) bad.add(row.position);
    });
  });
  if (bad.is_none()) return;
  throw Error(
      ErrorCode::input,
      fmt::format("layer {}: a key or value of token {} cannot be stored as {}{}", layer, bad.get(),
                  name_of(dtype),
                  dtype == DType::f16 ? " (it exceeds 65504); use --kv-dtype bf16 for the prefill"
                                      : ": it is not a finite number; check the checkpoint"));
}

void Transformer::queries(std::int64_t layer, LayerAttention& attention) {
  const LayerRecipe& recipe = recipe_of(layer);
  const LayerWeights& weights = weights_.layer(layer);
  const std::int64_t d = recipe.head_dim;
  const std::int64_t group = recipe.group();
  const Part heads = rows_.kv_heads(recipe.kv_heads);
  const HeadProjection projection = {
      .linear = {weights.query, weights.query_bias, recipe_.hidden, recipe.heads * d},
      .kv_heads = recipe.kv_heads,
      .outputs_per_kv_head = group * d};
  FirstPosition bad;
  rows_.for_each_wave([&] {
    rows_.normalise(weights.input_norm, recipe.norm_epsilon);
    rows_.project(projection, [&](const Row& row, const float* projected) {
      for (std::int64_t h = heads.begin * group; h < heads.end * group; ++h) {
        std::array<float, kLargestHead> turned;
        const std::span<const float> query(turned.data(), static_cast<std::size_t>(d));
        turn(recipe, weights.q_norm, row.position, projected + h * d, turned.data());
        if (!are_finite(DType::f32, std::as_bytes(query))) bad.add(row.position);
        attention.set_query(h, row, turned.data());
      }
    });
  });
  if (bad.is_none()) return;
  throw Error(ErrorCode::input,
              fmt::format("layer {}: a query of token {} is not a finite number; check the "
                          "checkpoint",
                          layer, bad.get()));
}

// Output projection and feed-forward layer, both onto the residual stream.
void Transformer::add_to_hidden(std::int64_t layer, LayerAttention& attention) {
  const LayerRecipe& recipe = recipe_of(layer);
  const LayerWeights& weights = weights_.layer(layer);
  const std::int64_t e = recipe_.hidden;
  const std::int64_t f = recipe.feed_forward;
  const std::int64_t d = recipe.head_dim;
  const std::int64_t group = recipe.group();
  const Part heads = rows_.kv_heads(recipe.kv_heads);
  rows_.for_each_wave([&] {
    rows_.add_heads({weights.attention_out, {}, recipe.heads * d, e}, recipe.kv_heads,
                    [&](const Row& row, float* x) {
                      for (std::int64_t h = heads.begin * group; h < heads.end * group; ++h) {
                        attention.read_result(h, row, x + h * d);
                      }
                    });
    rows_.normalise(weights.post_norm, recipe.norm_epsilon);
    rows_.add_feed_forward({weights.gate, weights.up, e, f, recipe.activation},
                           {weights.down, {}, f, e});
  });
}

void Transformer::final_hidden(std::int64_t position, std::span<float> out) const {
  rms_norm(rows_.hidden(position).data(), weights_.final_norm().data(), recipe_.final_norm_epsilon,
           recipe_.hidden, out.data());
}

// Norm over one head if the layer has it, then RoPE; `out` (D).
void Transformer::turn(const LayerRecipe& recipe, std::span<const float> norm,
                       std::int64_t position, const float* head, float* out) const {
  const std::int64_t d = recipe.head_dim;
  if (!norm.empty()) {
    rms_norm(head, norm.data(), recipe.norm_epsilon, d, out);
    head = out;
  }
  if (recipe.rope >= 0) {
    table_at(recipe.rope, position).turn(position, head, d, out);
  } else if (head != out) {
    std::copy_n(head, d, out);
  }
}

const RopeTable& Transformer::table_at(int rope, std::int64_t position) const {
  std::size_t run = 0;
  while (position >= positions_[run].end) ++run;
  return tables_[static_cast<std::size_t>(rope)][run];
}

std::int64_t Transformer::bytes() const {
  std::int64_t bytes = 0;
  for (const std::vector<RopeTable>& tables : tables_) {
    for (const RopeTable& table : tables) bytes += table.bytes();
  }
  return bytes;
}

}  // namespace powerprefill
