// Weights of linear layers in each compute type, made from f32 as loading a checkpoint makes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned_buffer.hpp"
#include "base/dtype.hpp"
#include "math/linear/bf16_matmul.hpp"
#include "math/linear/compute.hpp"
#include "math/linear/linear.hpp"
#include "math/linear/weight_form.hpp"
#include "math/rows/row_ops.hpp"

namespace powerprefill {

inline float rounded(float value) {
  return f32_from_bf16(bf16_from_f32(value));
}

inline std::vector<std::uint16_t> operands(const std::vector<float>& values) {
  std::vector<std::uint16_t> bits(values.size());
  round_to_bf16(values.data(), std::ssize(values), bits.data());
  return bits;
}

// A weight matrix in a compute type, and what holds its memory.
struct Matrix {
  Matrix(Compute compute, std::int64_t inputs, std::int64_t outputs, const std::vector<float>& from)
      : values(from) {
    if (compute == Compute::bf16) {
      const PackedShape shape(inputs, outputs);
      packed = AlignedBuffer<std::byte>(shape.bytes());
      const std::vector<std::uint16_t> bits = operands(values);
      for (std::int64_t p = 0; p < shape.panels(); ++p) {
        pack_panel(shape, p, bits.data() + shape.first_output(p) * inputs,
                   packed.data() + shape.offset(p));
      }
      weight = {weight_form(compute), packed.span()};
    } else {
      store_operands(compute, values.data(), std::ssize(values), values.data());
      weight = {weight_form(compute), std::as_bytes(std::span(values))};
    }
  }
  std::vector<float> values;
  AlignedBuffer<std::byte> packed;
  WeightMatrix weight;
};

// Those with bf16 operands that this CPU can do.
inline std::vector<Compute> bf16_computes() {
  if (bf16_isa() == Bf16Isa::none) return {Compute::bf16_emulated};
  return {Compute::bf16_emulated, Compute::bf16};
}

}  // namespace powerprefill
