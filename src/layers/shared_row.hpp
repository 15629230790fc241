// The row of decoding: one token, which all ranks share.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/thread_pool.hpp"
#include "layers/rows.hpp"
#include "model/recipe.hpp"
#include "mpi/communicator.hpp"

namespace powerprefill {

// Every rank has the hidden state, and computes its own key/value heads, their query heads, and a
// part of the outputs of every other product; what the others need is gathered. No sum is split, so
// the bits do not depend on the number of ranks. A wave is the row.
class SharedRow : public Rows {
 public:
  // All of it outlives this.
  SharedRow(const ModelRecipe& recipe, const mpi::Communicator& comm, ThreadPool& pool);

  // The token whose row it is from now on.
  void set_position(std::int64_t position) { position_ = position; }

  std::vector<TokenRange> positions() const override { return {{position_, position_ + 1}}; }
  Part kv_heads(std::int64_t count) const override {
    return part_of(count, comm_.rank(), comm_.size());
  }
  void set_hidden(
      const std::function<void(std::int64_t position, std::span<float> hidden)>& fill) override;
  std::span<const float> hidden(std::int64_t position) const override;
  void for_each_wave(const std::function<void()>& body) override { body(); }
  void normalise(std::span<const float> weight, float epsilon) override;
  void project(const HeadProjection& projection, const ProjectedBody& body) override;
  // The next two are collective.
  void add_heads(const Linear& linear, std::int64_t kv_heads, const HeadReader& read) override;
  void add_feed_forward(const GatedLinear& gated, const Linear& down) override;

 private:
  void add_product(const Linear& linear, const float* x);

  const mpi::Communicator& comm_;
  ThreadPool& pool_;
  std::int64_t position_ = 0;
  std::vector<float> hidden_;         // (E)
  std::vector<float> normed_;         // (E)
  const float* normed_by_ = nullptr;  // the weights of normed_, while hidden_ stays as it was
  std::vector<float> projected_;      // outputs of one projection, own heads only
  std::vector<float> inputs_;         // of the output projection, then of `down`
  std::vector<float> up_;             // (F)
  std::vector<float> update_;         // (E)
};

}  // namespace powerprefill
