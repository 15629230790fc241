// Rows of prefill: many tokens, split over the ranks by blocks.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/aligned_buffer.hpp"
#include "base/thread_pool.hpp"
#include "base/zones.hpp"
#include "layers/local_rows.hpp"
#include "layers/rows.hpp"
#include "model/recipe.hpp"
#include "partition/partition.hpp"

namespace powerprefill {

// The tokens of one rank's blocks, with all of their heads. Products are GEMMs over whole tiles
// that lie at fixed positions of the prompt, so that their bits do not depend on the split; a wave
// is a few tiles.
class TiledRows : public Rows {
 public:
  struct Context {
    const ModelRecipe& recipe;
    Compute compute;
    const Partition& partition;
    int rank;
    ThreadPool& pool;
    ZoneSeconds& zones;
    std::function<void()> poll;  // called between tasks on the calling thread
  };
  explicit TiledRows(const Context& context);

  std::vector<TokenRange> positions() const override;
  Part kv_heads(std::int64_t count) const override { return {0, count}; }
  void set_hidden(
      const std::function<void(std::int64_t position, std::span<float> hidden)>& fill) override;
  std::span<const float> hidden(std::int64_t position) const override;
  void for_each_wave(const std::function<void()>& body) override;
  void normalise(std::span<const float> weight, float epsilon) override;
  void project(const HeadProjection& projection, const ProjectedBody& body) override;
  void add_heads(const Linear& linear, std::int64_t kv_heads, const HeadReader& read) override;
  void add_feed_forward(const GatedLinear& gated, const Linear& down) override;

  const LocalRows& local() const { return local_; }
  std::int64_t bytes() const;

 private:
  // body(row, its place in the wave's buffers) for all owned tokens of `tiles`.
  struct Tiles {
    std::int64_t first = 0;
    std::int64_t count = 0;
  };
  void for_each_row(const Tiles& tiles,
                    const std::function<void(const Row& row, std::int64_t place)>& body);
  std::byte* operand_row(AlignedBuffer<std::byte>& buffer, std::int64_t row,
                         std::int64_t width) const;
  void clear_other_rows(std::int64_t width);
  float* hidden_of_wave() { return hidden_.data() + wave_.first * kTileTokens * recipe_.hidden; }

  const ModelRecipe& recipe_;
  Compute compute_;
  ThreadPool& pool_;
  ZoneSeconds& zones_;
  std::function<void()> poll_;
  LocalRows local_;
  std::int64_t wave_tiles_;
  Tiles wave_;
  AlignedBuffer<float> hidden_;         // (rows, E)
  AlignedBuffer<std::byte> normed_;     // (wave rows, E) of operands
  AlignedBuffer<float> projected_;      // (wave rows, the widest projection)
  AlignedBuffer<std::byte> attended_;   // (wave rows, H D) of operands
  AlignedBuffer<std::byte> activated_;  // (wave rows, F) of operands
};

}  // namespace powerprefill
