#include "math/linear/linear.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/aligned_buffer.hpp"
#include "base/checked.hpp"
#include "math/linear/bf16_matmul.hpp"
#include "math/rows/row_ops.hpp"

namespace powerprefill {

namespace {

constexpr std::int64_t kRowOutputs = 64;  // outputs per task of a single-row product

void require_dense(const OperandView& x, std::int64_t inputs) {
  if (x.ld == inputs) return;
  throw Error(ErrorCode::internal, "rows of bf16 operands have to lie end to end");
}

// Moves a dense panel of results to where it belongs.
void place_panel(const Linear& linear, std::int64_t first, std::int64_t count, const float* panel,
                 std::int64_t rows, MatrixSpan y, bool accumulate) {
  for (std::int64_t r = 0; r < rows; ++r) {
    float* out = y.data + r * y.ld + first;
    if (accumulate) {
      add(out, panel + r * count, count);
    } else {
      std::copy_n(panel + r * count, count, out);
    }
    if (!linear.bias.empty()) add(out, linear.bias.data() + first, count);
  }
}

void apply_packed(ThreadPool& pool, const Linear& linear, std::int64_t tiles, OperandView x,
                  MatrixSpan y, bool accumulate, const std::function<void()>& between) {
  require_dense(x, linear.inputs);
  const PackedShape shape(linear.inputs, linear.outputs);
  const auto* rows = static_cast<const std::uint16_t*>(x.data);
  // Tiles of a panel follow each other: the panel stays in the core's cache.
  pool.run(
      tiles * shape.panels(),
      [&](std::int64_t task, int) {
        thread_local AlignedBuffer<float> result(kTileTokens * kBf16Panel);
        const std::int64_t panel = task / tiles;
        const std::int64_t row = task % tiles * kTileTokens;
        multiply_panel(shape, panel, kTileTokens, rows + row * x.ld,
                       linear.weight.packed.data() + shape.offset(panel), result.data());
        place_panel(linear, shape.first_output(panel), shape.outputs_of(panel), result.data(),
                    kTileTokens, {y.data + row * y.ld, y.ld}, accumulate);
      },
      between);
}

// The products of one task of a gated layer: outputs [first, first + count) of kTileTokens rows.
struct GatedPart {
  std::int64_t first;
  std::int64_t count;
  float* gate;  // (kTileTokens, count)
  float* up;    // likewise
};

// Tasks over (panel, tile), tiles of a panel one after another: multiply(part, panel, first row).
template <typename Multiply>
void run_gated(ThreadPool& pool, const GatedLinear& linear, std::int64_t tiles,
               std::int64_t panel_outputs, void* y, const std::function<void()>& between,
               const Multiply& multiply) {
  const Compute compute = linear.gate.compute;
  pool.run(
      tiles * ceil_div(linear.outputs, panel_outputs),
      [&](std::int64_t task, int) {
        thread_local AlignedBuffer<float> room;
        const std::int64_t needed = 2 * kTileTokens * panel_outputs;
        if (std::cmp_less(room.size(), needed)) room = AlignedBuffer<float>(needed);
        const std::int64_t panel = task / tiles;
        const std::int64_t row = task % tiles * kTileTokens;
        const std::int64_t first = panel * panel_outputs;
        const std::int64_t count = std::min(panel_outputs, linear.outputs - first);
        const GatedPart part = {first, count, room.data(), room.data() + kTileTokens * count};
        multiply(part, panel, row);
        for (std::int64_t r = 0; r < kTileTokens; ++r) {
          float* gate = part.gate + r * count;
          silu_multiply(gate, part.up + r * count, count);
          store_operands(compute, gate, count,
                         static_cast<std::byte*>(y) +
                             ((row + r) * linear.outputs + first) * operand_bytes(compute));
        }
      },
      between);
}

// Whole panels, so that an output's bits do not depend on the range.
void apply_packed_row(ThreadPool& pool, const Linear& linear, const float* x, std::int64_t begin,
                      std::int64_t end, float* y) {
  const PackedShape shape(linear.inputs, linear.outputs);
  std::vector<std::uint16_t> operands(static_cast<std::size_t>(linear.inputs));
  round_to_bf16(x, linear.inputs, operands.data());
  const std::int64_t first_panel = begin / kBf16Panel;
  pool.run(ceil_div(end, kBf16Panel) - first_panel, [&](std::int64_t task, int) {
    const std::int64_t panel = first_panel + task;
    const std::int64_t first = shape.first_output(panel);
    const std::int64_t count = shape.outputs_of(panel);
    alignas(64) float out[kBf16Panel];
    multiply_panel(shape, panel, 1, operands.data(),
                   linear.weight.packed.data() + shape.offset(panel), out);
    if (!linear.bias.empty()) add(out, linear.bias.data() + first, count);
    for (std::int64_t o = std::max(begin, first); o < std::min(end, first + count); ++o) {
      y[o] = out[o - first];
    }
  });
}

}  // namespace

void apply_linear(ThreadPool& pool, const Linear& linear, std::int64_t tiles, OperandView x,
                  MatrixSpan y, bool accumulate, const std::function<void()>& between) {
  if (linear.weight.compute == Compute::bf16) {
    apply_packed(pool, linear, tiles, x, y, accumulate, between);
    return;
  }
  const auto* rows = static_cast<const float*>(x.data);
  const std::int64_t panels = ceil_div(linear.outputs, kPanelOutputs);
  pool.run(
      tiles * panels,
      [&](std::int64_t task, int) {
        const std::int64_t row = task / panels * kTileTokens;
        const std::int64_t first = task % panels * kPanelOutputs;
        const std::int64_t count = std::min(kPanelOutputs, linear.outputs - first);
        float* out = y.data + row * y.ld + first;
        gemm_nt(kTileTokens, count, linear.inputs, {rows + row * x.ld, x.ld},
                {linear.weight.values.data() + first * linear.inputs, linear.inputs},
                accumulate ? 1.0F : 0.0F, {out, y.ld});
        if (linear.bias.empty()) return;
        for (std::int64_t r = 0; r < kTileTokens; ++r) {
          add(out + r * y.ld, linear.bias.data() + first, count);
        }
      },
      between);
}

void apply_gated(ThreadPool& pool, const GatedLinear& linear, std::int64_t tiles, OperandView x,
                 void* y, const std::function<void()>& between) {
  if (linear.gate.compute == Compute::bf16) {
    static_assert(kBf16Panel <= kPanelOutputs);
    require_dense(x, linear.inputs);
    const PackedShape shape(linear.inputs, linear.outputs);
    const auto* rows = static_cast<const std::uint16_t*>(x.data);
    run_gated(pool, linear, tiles, kBf16Panel, y, between,
              [&](const GatedPart& part, std::int64_t panel, std::int64_t row) {
                for (const auto& [weight, out] :
                     {std::pair(&linear.gate, part.gate), std::pair(&linear.up, part.up)}) {
                  multiply_panel(shape, panel, kTileTokens, rows + row * x.ld,
                                 weight->packed.data() + shape.offset(panel), out);
                }
              });
    return;
  }
  const auto* rows = static_cast<const float*>(x.data);
  run_gated(pool, linear, tiles, kPanelOutputs, y, between,
            [&](const GatedPart& part, std::int64_t, std::int64_t row) {
              for (const auto& [weight, out] :
                   {std::pair(&linear.gate, part.gate), std::pair(&linear.up, part.up)}) {
                gemm_nt(kTileTokens, part.count, linear.inputs, {rows + row * x.ld, x.ld},
                        {weight->values.data() + part.first * linear.inputs, linear.inputs}, 0.0F,
                        {out, part.count});
              }
            });
}

void apply_linear_row(ThreadPool& pool, const Linear& linear, const float* x, std::int64_t begin,
                      std::int64_t end, float* y) {
  if (begin >= end) return;
  if (linear.weight.compute == Compute::bf16) {
    apply_packed_row(pool, linear, x, begin, end, y);
    return;
  }
  std::vector<float> rounded;
  if (linear.weight.compute != Compute::f32) {
    rounded.resize(static_cast<std::size_t>(linear.inputs));
    store_operands(linear.weight.compute, x, linear.inputs, rounded.data());
    x = rounded.data();
  }
  pool.run(ceil_div(end - begin, kRowOutputs), [&](std::int64_t task, int) {
    const std::int64_t first = begin + task * kRowOutputs;
    for (std::int64_t o = first; o < std::min(end, first + kRowOutputs); ++o) {
      const float value = dot(linear.weight.values.data() + o * linear.inputs, x, linear.inputs);
      y[o] = linear.bias.empty() ? value : value + linear.bias[static_cast<std::size_t>(o)];
    }
  });
}

}  // namespace powerprefill
