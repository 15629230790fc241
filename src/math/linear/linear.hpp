// Linear layers over many tokens: tasks over (token tile, output panel).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/thread_pool.hpp"
#include "math/linear/compute.hpp"
#include "math/linear/gemm.hpp"
#include "math/rows/row_ops.hpp"

namespace powerprefill {

// Rows of every GEMM. Tiles lie at fixed positions of the prompt: tile t holds the tokens
// [t kTileTokens, (t + 1) kTileTokens), whichever rank has them.
inline constexpr std::int64_t kTileTokens = 256;

// Outputs of every GEMM but the last of a layer, which has the rest.
inline constexpr std::int64_t kPanelOutputs = 1024;

class WeightForm;

// A weight matrix (outputs, inputs) in one of the forms of weight_form.hpp. A view.
struct WeightMatrix {
  const WeightForm* form = nullptr;
  std::span<const std::byte> data = {};
  WeightMatrix() = default;
  WeightMatrix(const WeightForm& of, std::span<const std::byte> bytes) : form(&of), data(bytes) {}
  // Row-major f32.
  WeightMatrix(std::span<const float> f32);     // NOLINT: implicit on purpose
  WeightMatrix(const std::vector<float>& f32);  // NOLINT: likewise
};

struct Linear {
  WeightMatrix weight;
  std::span<const float> bias;  // (outputs), or empty
  std::int64_t inputs;
  std::int64_t outputs;
};

// Rows of operands in the compute type of a weight matrix, see store_operands(); ld is the distance
// of rows in operands.
struct OperandView {
  const void* data;
  std::int64_t ld;
};

// y = x W^T + bias, or y += x W^T without bias, for `tiles` tiles of kTileTokens rows each.
// `between` is called on the calling thread between tasks.
void apply_linear(ThreadPool& pool, const Linear& linear, std::int64_t tiles, OperandView x,
                  MatrixSpan y, bool accumulate, const std::function<void()>& between = {});

// The first half of a gated feed-forward layer (SwiGLU and its kind): gate and up (outputs, inputs)
// without biases.
struct GatedLinear {
  WeightMatrix gate;
  WeightMatrix up;
  std::int64_t inputs;
  std::int64_t outputs;
  Activation activation = Activation::silu;
};

// activation(x gate^T) (x up^T) for `tiles` tiles, elementwise, into `y`: rows of operands that lie
// end to end, (tiles kTileTokens, outputs). The two products never leave the core that computes
// them.
void apply_gated(ThreadPool& pool, const GatedLinear& linear, std::int64_t tiles, OperandView x,
                 void* y, const std::function<void()>& between = {});

// y (outputs) = W x + bias for a single row of f32, which is rounded to the compute type, for
// outputs [begin, end) only. The result of an output does not depend on the range. Used by decoding
// and for the logits.
void apply_linear_row(ThreadPool& pool, const Linear& linear, const float* x, std::int64_t begin,
                      std::int64_t end, float* y);

// The layer's outputs [first, first + count) as a layer of their own; `first` is a multiple of
// kPanelOutputs.
Linear outputs_of(const Linear& linear, std::int64_t first, std::int64_t count);

}  // namespace powerprefill
