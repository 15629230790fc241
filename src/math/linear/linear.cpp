#include "math/linear/linear.hpp"

#include "math/linear/weight_form.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill {

WeightMatrix::WeightMatrix(std::span<const float> f32)
    : WeightMatrix(f32_weights(), std::as_bytes(f32)) {}
WeightMatrix::WeightMatrix(const std::vector<float>& f32)
    : WeightMatrix(std::span<const float>(f32)) {}

void apply_linear(ThreadPool& pool, const Linear& linear, std::int64_t tiles, OperandView x,
                  MatrixSpan y, bool accumulate, const std::function<void()>& between) {
  linear.weight.form->apply(pool, linear, tiles, x, y, accumulate, between);
}

void apply_gated(ThreadPool& pool, const GatedLinear& linear, std::int64_t tiles, OperandView x,
                 void* y, const std::function<void()>& between) {
  linear.gate.form->apply_gated(pool, linear, tiles, x, y, between);
}

void apply_linear_row(ThreadPool& pool, const Linear& linear, const float* x, std::int64_t begin,
                      std::int64_t end, float* y) {
  if (begin < end) linear.weight.form->apply_row(pool, linear, x, begin, end, y);
}

Linear outputs_of(const Linear& linear, std::int64_t first, std::int64_t count) {
  const std::span<const float> bias =
      linear.bias.empty()
          ? linear.bias
          : linear.bias.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
  return {linear.weight.form->part(linear.weight, linear.inputs, first, count), bias, linear.inputs,
          count};
}

void WeightForm::pack(const MatrixShape&, std::int64_t, const std::byte*, std::byte*) const {
  throw Error(ErrorCode::internal, "weights of this form are not packed");
}

const WeightForm& weight_form(Compute compute) {
  switch (compute) {
    case Compute::f32:
      return f32_weights();
    case Compute::bf16_emulated:
      return rounded_weights();
    case Compute::bf16:
      break;
  }
  return packed_bf16_weights();
}

}  // namespace powerprefill
