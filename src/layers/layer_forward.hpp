// The layers of the model over the tokens of one rank.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/aligned_buffer.hpp"
#include "base/thread_pool.hpp"
#include "base/zones.hpp"
#include "kv/kv_exchange.hpp"
#include "kv/layer_kv.hpp"
#include "kv/past_stream.hpp"
#include "layers/block_attention.hpp"
#include "layers/local_rows.hpp"
#include "math/rows/rope.hpp"
#include "model/config.hpp"
#include "model/weights/weights.hpp"

namespace powerprefill {

// Holds the hidden states of the rank's tokens, (rows, E), and takes them through one layer at a
// time.
//
// The story of a layer: project_kv(), start of the exchange, project_q(), attend(), feed_forward().
// All linear layers run in waves of a few GEMM tiles, so that working memory does not grow with the
// prompt.
class LayerForward {
 public:
  // `poll` is called between tasks on the calling thread, to make communication progress.
  struct Context {
    const ModelConfig& config;
    const Weights& weights;
    const Partition& partition;
    int rank;
    KvShape kv_shape;
    ThreadPool& pool;
    ZoneSeconds& zones;
    std::function<void()> poll;
  };
  explicit LayerForward(const Context& context);

  // Fills the hidden states from the embedding; `tokens` is the whole prompt, (T).
  void embed(std::span<const std::int32_t> tokens);
  // Keys (after RoPE) and values of layer `layer`, rounded to the cache's dtype, into `kv`. Throws
  // Error(input) when a value is not finite in that dtype.
  void project_kv(std::int64_t layer, KvBlocks& kv);
  // Queries of the layer, after RoPE, into the attention's stacks. Throws Error(input) when one is
  // not finite.
  void project_q(std::int64_t layer);
  // Attention by `pattern` over the blocks that `exchange` brings and those that `past` reads
  // (nullptr when there is no past).
  void attend(const Pattern& pattern, KvExchange& exchange, PastStream* past);
  // Output projection, residual, norm, feed-forward, residual.
  void feed_forward(std::int64_t layer);

  // Final norm of the token at `position`, which this rank owns, into `out` (E).
  void final_hidden(std::int64_t position, std::span<float> out) const;

  const LocalRows& local() const { return local_; }
  const BlockAttention& attention() const { return attention_; }
  std::int64_t bytes() const;

 private:
  void for_each_wave(const std::function<void(std::int64_t tile, std::int64_t tiles)>& body);
  Compute compute() const { return context_.weights.compute(); }
  std::byte* operand_row(AlignedBuffer<std::byte>& buffer, std::int64_t row,
                         std::int64_t width) const;
  void normalise(std::int64_t tile, std::int64_t tiles, std::span<const float> weight);
  void project(std::int64_t tile, std::int64_t tiles, std::span<const float> norm,
               const Linear& linear);
  void clear_other_rows(std::int64_t tile, std::int64_t tiles, std::int64_t width);
  void run_rows(std::int64_t tile, std::int64_t tiles,
                const std::function<void(std::int64_t row, std::int64_t position,
                                         std::int64_t block_row)>& body);
  void store_kv_row(const LayerWeights& weights, std::int64_t position, const float* projected,
                    std::byte* key, std::byte* value, bool& finite) const;
  void turn(std::span<const float> norm, std::int64_t position, const float* head,
            float* out) const;
  const RopeTable& rope_at(std::int64_t position) const;

  Context context_;
  LocalRows local_;
  std::vector<RopeTable> rope_;  // per run of local_
  BlockAttention attention_;
  std::int64_t wave_tiles_;
  AlignedBuffer<float> hidden_;         // (rows, E)
  AlignedBuffer<std::byte> normed_;     // (wave rows, E) of operands
  AlignedBuffer<float> projected_;      // (wave rows, the widest projection)
  AlignedBuffer<std::byte> attended_;   // (wave rows, H D) of operands
  AlignedBuffer<std::byte> activated_;  // (wave rows, F) of operands
};

}  // namespace powerprefill
