// Weights as f32, row after row: the matrix product is the BLAS library's. With operands rounded to
// bf16 the same products emulate a CPU that has bf16 instructions.
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/checked.hpp"
#include "math/linear/gated_tasks.hpp"
#include "math/linear/weight_form.hpp"
#include "math/rows/convert.hpp"
#include "math/rows/row_ops.hpp"

namespace powerprefill {

namespace {

constexpr std::int64_t kRowOutputs = 64;  // outputs per task of a single-row product

const float* values_of(const WeightMatrix& matrix) {
  return reinterpret_cast<const float*>(matrix.data.data());
}

class F32Weights : public WeightForm {
 public:
  explicit F32Weights(Compute operands) : operands_(operands) {}

  Compute operands() const override { return operands_; }
  std::int64_t bytes(const MatrixShape& shape) const override {
    return checked_mul(checked_mul(shape.outputs, shape.inputs), element_bytes());
  }
  std::int64_t element_bytes() const override { return sizeof(float); }

  void convert(DType from, std::span<const std::byte> elements, std::byte* to) const override {
    const std::size_t count = elements.size() / bytes_of(from);
    float* values = reinterpret_cast<float*>(to);
    widen(from, elements.data(), {values, count});
    if (operands_ != Compute::f32)
      round_to_bf16_in_f32(values, std::ssize(elements) / static_cast<std::int64_t>(bytes_of(from)),
                           values);
  }

  WeightMatrix part(const WeightMatrix& matrix, std::int64_t inputs, std::int64_t first,
                    std::int64_t count) const override {
    return {*this, matrix.data.subspan(static_cast<std::size_t>(first * inputs * element_bytes()),
                                       static_cast<std::size_t>(count * inputs * element_bytes()))};
  }

  void apply(ThreadPool& pool, const Linear& linear, std::int64_t tiles, OperandView x,
             MatrixSpan y, bool accumulate, const Between& between) const override {
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
                  {values_of(linear.weight) + first * linear.inputs, linear.inputs},
                  accumulate ? 1.0F : 0.0F, {out, y.ld});
          if (linear.bias.empty()) return;
          for (std::int64_t r = 0; r < kTileTokens; ++r) {
            add(out + r * y.ld, linear.bias.data() + first, count);
          }
        },
        between);
  }

  void apply_gated(ThreadPool& pool, const GatedLinear& linear, std::int64_t tiles, OperandView x,
                   void* y, const Between& between) const override {
    const auto* rows = static_cast<const float*>(x.data);
    run_gated(pool, linear, tiles, kPanelOutputs, y, between,
              [&](const GatedPart& part, std::int64_t, std::int64_t row) {
                for (const auto& [weight, out] :
                     {std::pair(&linear.gate, part.gate), std::pair(&linear.up, part.up)}) {
                  gemm_nt(kTileTokens, part.count, linear.inputs, {rows + row * x.ld, x.ld},
                          {values_of(*weight) + part.first * linear.inputs, linear.inputs}, 0.0F,
                          {out, part.count});
                }
              });
  }

  void apply_row(ThreadPool& pool, const Linear& linear, const float* x, std::int64_t begin,
                 std::int64_t end, float* y) const override {
    std::vector<float> rounded;
    if (operands_ != Compute::f32) {
      rounded.resize(static_cast<std::size_t>(linear.inputs));
      store_operands(operands_, x, linear.inputs, rounded.data());
      x = rounded.data();
    }
    pool.run(ceil_div(end - begin, kRowOutputs), [&](std::int64_t task, int) {
      const std::int64_t first = begin + task * kRowOutputs;
      for (std::int64_t o = first; o < std::min(end, first + kRowOutputs); ++o) {
        const float value = dot(values_of(linear.weight) + o * linear.inputs, x, linear.inputs);
        y[o] = linear.bias.empty() ? value : value + linear.bias[static_cast<std::size_t>(o)];
      }
    });
  }

 private:
  Compute operands_;
};

}  // namespace

const WeightForm& f32_weights() {
  static const F32Weights form(Compute::f32);
  return form;
}

const WeightForm& rounded_weights() {
  static const F32Weights form(Compute::bf16_emulated);
  return form;
}

}  // namespace powerprefill
