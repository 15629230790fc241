// One decoded token through all layers.
#include <fmt/format.h>

#include <algorithm>

#include "base/checked.hpp"
#include "decode/decoder_state.hpp"
#include "math/rows/convert.hpp"
#include "math/rows/row_ops.hpp"

namespace powerprefill {

void Decoder::State::step(std::int32_t token) {
  const ModelConfig& c = model.config;
  require_known(token);
  std::copy_n(model.weights.embedding().data() + token * c.hidden, c.hidden, hidden.data());
  const RopeTable rope(*model.pool, frequencies.inv_freq, frequencies.attention_scaling, tokens, 1);
  for (std::int64_t layer = 0; layer < c.layers; ++layer) {
    attention(layer, rope);
    feed_forward(layer);
  }
  ++tokens;
  ids.push_back(token);
  rms_norm(hidden.data(), model.weights.final_norm().data(), c.norm_epsilon, c.hidden,
           normed.data());
  last_hidden = normed;
  if (writer && world.is_root() && past->reader().header().saves_hidden) {
    new_hidden.insert(new_hidden.end(), normed.begin(), normed.end());
  }
  apply_linear_row_split(world, *model.pool,
                         {model.weights.output_head(), {}, c.hidden, c.vocabulary}, normed.data(),
                         logits);
}

// Every rank computes the query heads of its own key/value heads, with their keys and values.
void Decoder::State::attention(std::int64_t layer, const RopeTable& rope) {
  const ModelConfig& c = model.config;
  const LayerWeights& weights = model.weights.layer(layer);
  const std::int64_t d = c.head_dim;
  const std::int64_t group = c.heads / c.kv_heads;
  const OutputRange mine = part_of(c.kv_heads, world.rank(), world.size());
  rms_norm(hidden.data(), weights.input_norm.data(), c.norm_epsilon, c.hidden, normed.data());
  const Linear query = {weights.query, weights.query_bias, c.hidden, c.heads * d};
  const Linear key_value = {weights.key_value, weights.key_value_bias, c.hidden,
                            2 * c.kv_heads * d};
  const std::int64_t key_at = c.heads;
  const std::int64_t value_at = c.heads + c.kv_heads;
  apply_linear_row(*model.pool, query, normed.data(), mine.begin * group * d, mine.end * group * d,
                   projected.data());
  for (const std::int64_t at : {std::int64_t{0}, c.kv_heads}) {
    apply_linear_row(*model.pool, key_value, normed.data(), (at + mine.begin) * d,
                     (at + mine.end) * d, projected.data() + key_at * d);
  }
  const auto turn = [&](std::int64_t head, std::span<const float> norm) {
    float* x = projected.data() + head * d;
    if (!norm.empty()) rms_norm(x, norm.data(), c.norm_epsilon, d, x);
    rotate_pairs(x, rope.cosine(tokens), rope.sine(tokens), d, x);
  };
  for (std::int64_t h = mine.begin * group; h < mine.end * group; ++h) turn(h, weights.q_norm);
  for (std::int64_t g = mine.begin; g < mine.end; ++g) turn(key_at + g, weights.k_norm);

  const std::span<const float> queries(
      projected.data() + mine.begin * group * d,
      static_cast<std::size_t>((mine.end - mine.begin) * group * d));
  if (!are_finite(DType::f32, std::as_bytes(queries))) {
    throw Error(ErrorCode::input,
                fmt::format("layer {}: a query of token {} is not a finite number; check the "
                            "checkpoint",
                            layer, tokens));
  }

  // Rows of other ranks' heads stay zero here; they are never read.
  const KvShape& shape = past->shape();
  std::vector<std::byte> key(static_cast<std::size_t>(shape.row_bytes()));
  std::vector<std::byte> value(key.size());
  const auto width = static_cast<std::size_t>(c.kv_heads * d);
  const bool finite = round_to(shape.dtype, {projected.data() + key_at * d, width}, key.data()) &&
                      round_to(shape.dtype, {projected.data() + value_at * d, width}, value.data());
  if (!finite) {
    throw Error(ErrorCode::input,
                fmt::format("layer {}: a key or value of token {} cannot be stored as {}; prefill "
                            "again with --kv-dtype bf16 or f32",
                            layer, tokens, name_of(shape.dtype)));
  }
  past->append(layer, key, value);
  attend(layer, mine);
  gather_parts(world, c.kv_heads, group * d, attended);
  residual({weights.attention_out, {}, c.heads * d, c.hidden}, attended.data());
}

void Decoder::State::feed_forward(std::int64_t layer) {
  const ModelConfig& c = model.config;
  const LayerWeights& weights = model.weights.layer(layer);
  const std::int64_t f = c.feed_forward;
  rms_norm(hidden.data(), weights.post_norm.data(), c.norm_epsilon, c.hidden, normed.data());
  const OutputRange mine = part_of(f, world.rank(), world.size());
  apply_linear_row(*model.pool, {weights.gate, {}, c.hidden, f}, normed.data(), mine.begin,
                   mine.end, gate.data());
  apply_linear_row(*model.pool, {weights.up, {}, c.hidden, f}, normed.data(), mine.begin, mine.end,
                   up.data());
  silu_multiply(gate.data() + mine.begin, up.data() + mine.begin, mine.end - mine.begin);
  gather_parts(world, f, 1, gate);
  residual({weights.down, {}, f, c.hidden}, gate.data());
}

void Decoder::State::residual(const Linear& linear, const float* x) {
  apply_linear_row_split(world, *model.pool, linear, x, update);
  add(hidden.data(), update.data(), model.config.hidden);
}

}  // namespace powerprefill
