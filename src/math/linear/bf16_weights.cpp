// Weights as bf16, in panels that are packed for this CPU's bf16 instructions: see bf16_matmul.hpp.
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/aligned_buffer.hpp"
#include "base/checked.hpp"
#include "math/linear/bf16_matmul.hpp"
#include "math/linear/gated_tasks.hpp"
#include "math/linear/weight_form.hpp"
#include "math/rows/convert.hpp"
#include "math/rows/row_ops.hpp"

namespace powerprefill {

namespace {

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

class PackedBf16Weights : public WeightForm {
 public:
  Compute operands() const override { return Compute::bf16; }
  std::int64_t bytes(const MatrixShape& shape) const override {
    return PackedShape(shape.inputs, shape.outputs).bytes();
  }
  std::int64_t element_bytes() const override { return sizeof(std::uint16_t); }

  void convert(DType from, std::span<const std::byte> elements, std::byte* to) const override {
    if (from == DType::bf16) {
      std::memcpy(to, elements.data(), elements.size());
      return;
    }
    std::vector<float> wide(elements.size() / bytes_of(from));
    widen(from, elements.data(), wide);
    round_to_bf16(wide.data(), std::ssize(wide), reinterpret_cast<std::uint16_t*>(to));
  }

  std::int64_t panel_outputs() const override { return kBf16Panel; }
  void pack(const MatrixShape& shape, std::int64_t panel, const std::byte* rows,
            std::byte* matrix) const override {
    const PackedShape packed(shape.inputs, shape.outputs);
    pack_panel(packed, panel, reinterpret_cast<const std::uint16_t*>(rows),
               matrix + packed.offset(panel));
  }

  WeightMatrix part(const WeightMatrix& matrix, std::int64_t inputs, std::int64_t first,
                    std::int64_t count) const override {
    // The first panels of a matrix are whole; oneDNN does not describe one without outputs.
    const std::int64_t offset = first == 0 ? 0 : PackedShape(inputs, first).bytes();
    return {*this,
            matrix.data.subspan(static_cast<std::size_t>(offset),
                                static_cast<std::size_t>(PackedShape(inputs, count).bytes()))};
  }

  void apply(ThreadPool& pool, const Linear& linear, std::int64_t tiles, OperandView x,
             MatrixSpan y, bool accumulate, const Between& between) const override {
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
                         linear.weight.data.data() + shape.offset(panel), result.data());
          place_panel(linear, shape.first_output(panel), shape.outputs_of(panel), result.data(),
                      kTileTokens, {y.data + row * y.ld, y.ld}, accumulate);
        },
        between);
  }

  void apply_gated(ThreadPool& pool, const GatedLinear& linear, std::int64_t tiles, OperandView x,
                   void* y, const Between& between) const override {
    static_assert(kBf16Panel <= kPanelOutputs);
    require_dense(x, linear.inputs);
    const PackedShape shape(linear.inputs, linear.outputs);
    const auto* rows = static_cast<const std::uint16_t*>(x.data);
    run_gated(pool, linear, tiles, kBf16Panel, y, between,
              [&](const GatedPart& part, std::int64_t panel, std::int64_t row) {
                for (const auto& [weight, out] :
                     {std::pair(&linear.gate, part.gate), std::pair(&linear.up, part.up)}) {
                  multiply_panel(shape, panel, kTileTokens, rows + row * x.ld,
                                 weight->data.data() + shape.offset(panel), out);
                }
              });
  }

  // Whole panels, so that an output's bits do not depend on the range.
  void apply_row(ThreadPool& pool, const Linear& linear, const float* x, std::int64_t begin,
                 std::int64_t end, float* y) const override {
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
                     linear.weight.data.data() + shape.offset(panel), out);
      if (!linear.bias.empty()) add(out, linear.bias.data() + first, count);
      for (std::int64_t o = std::max(begin, first); o < std::min(end, first + count); ++o) {
        y[o] = out[o - first];
      }
    });
  }
};

}  // namespace

const WeightForm& packed_bf16_weights() {
  static const PackedBf16Weights form;
  return form;
}

}  // namespace powerprefill
