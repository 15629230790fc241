// Attention of one token over everything before it: blocks of the cache file, and rows since.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/thread_pool.hpp"
#include "kv/past_blocks.hpp"
#include "layers/layer_attention.hpp"
#include "model/recipe.hpp"
#include "powerprefill/pattern.hpp"

namespace powerprefill {

// For the row of a SharedRow: with the heads of this rank.
class CachedAttention : public LayerAttention {
 public:
  // All of it outlives this. `patterns`: of each layer. They need not be those of the rows that are
  // there: what a token attends to is its own affair.
  CachedAttention(const ModelRecipe& recipe, PastBlocks& past, ThreadPool& pool, const Part& heads,
                  const std::vector<std::shared_ptr<const Pattern>>& patterns);

  DType kv_dtype() const override { return past_.shape().dtype; }
  KvSpan key_value(const Row& row) override;
  void take_keys(std::int64_t layer, const std::function<void()>& fill) override;
  void set_query(std::int64_t head, const Row& row, const float* query) override;
  void attend(std::int64_t layer) override;
  void read_result(std::int64_t head, const Row& row, float* out) const override;
  bool finish(std::int64_t) override { return true; }

 private:
  const ModelRecipe& recipe_;
  PastBlocks& past_;
  ThreadPool& pool_;
  Part heads_;
  const std::vector<std::shared_ptr<const Pattern>>& patterns_;
  std::int64_t position_ = 0;     // of the row
  std::vector<std::byte> key_;    // (G, D); other ranks' heads stay zero, and are never read
  std::vector<std::byte> value_;  // likewise
  std::vector<float> query_;      // (H, D), own heads only
  std::vector<float> result_;     // likewise
  std::vector<float> partial_;    // softmax states of runs of key blocks
};

}  // namespace powerprefill
