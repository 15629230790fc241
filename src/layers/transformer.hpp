// What a model computes, in order: the one place that reads the recipe, for prefill and decoding.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.hpp"
#include "base/zones.hpp"
#include "layers/layer_attention.hpp"
#include "layers/rows.hpp"
#include "math/rows/rope.hpp"
#include "model/recipe.hpp"
#include "model/weights/weights.hpp"

namespace powerprefill {

// Takes rows through all layers of a model.
class Transformer {
 public:
  // All of it outlives this. The positions of `rows` are fixed from here on.
  Transformer(const ModelRecipe& recipe, const Weights& weights, ThreadPool& pool, Rows& rows,
              ZoneSeconds& zones);

  // Sets the hidden states from the embedding; `ids` are those of the tokens from position `first`
  // on.
  void embed(std::span<const std::int32_t> ids, std::int64_t first = 0);
  // Takes all layers; false when `attention` has dropped the run. Throws Error(input) naming layer
  // and token for a query that is not finite, or a key or value that its dtype does not hold: seen
  // by this rank alone, unless `attention` lets the ranks agree on it.
  bool run(LayerAttention& attention);
  // The final norm of the token at `position`, which this rank has, into `out` (E).
  void final_hidden(std::int64_t position, std::span<float> out) const;

  std::int64_t bytes() const;  // of tables

 private:
  void keys_and_values(std::int64_t layer, LayerAttention& attention);
  void queries(std::int64_t layer, LayerAttention& attention);
  void add_to_hidden(std::int64_t layer, LayerAttention& attention);
  void turn(const LayerRecipe& recipe, std::span<const float> norm, std::int64_t position,
            const float* head, float* out) const;
  const RopeTable& table_at(int rope, std::int64_t position) const;
  const LayerRecipe& recipe_of(std::int64_t layer) const {
    return recipe_.layers[static_cast<std::size_t>(layer)];
  }

  const ModelRecipe& recipe_;
  const Weights& weights_;
  Rows& rows_;
  ZoneSeconds& zones_;
  std::vector<TokenRange> positions_;
  std::vector<std::vector<RopeTable>> tables_;  // by rope, then by run of positions_
};

}  // namespace powerprefill
