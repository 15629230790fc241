// The arithmetic of the linear layers and of attention.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "powerprefill/types.hpp"

namespace powerprefill {

// What products are computed from; sums are f32 in any case.
enum class Compute {
  f32,
  bf16,           // bf16 operands, on the CPU's own bf16 instructions
  bf16_emulated,  // the same operands in f32 instructions: slow, for CPUs without
};

// The best bf16 instructions of this CPU that the operating system lets us use.
enum class Bf16Isa { none, avx512, amx };
Bf16Isa bf16_isa();

// `automatic` is bf16 where this CPU has it, else f32; bf16 is emulated where it has not.
Compute compute_for(ComputeType type);
// As the user knows it: f32 or bf16.
constexpr ComputeType type_of(Compute compute) {
  return compute == Compute::f32 ? ComputeType::f32 : ComputeType::bf16;
}
constexpr std::string_view name_of(Compute compute) {
  return name_of(type_of(compute));
}

// Bytes of one operand in memory.
constexpr std::int64_t operand_bytes(Compute compute) {
  return compute == Compute::bf16 ? 2 : 4;
}

// Stores n values as operands: rounded to bf16 (to nearest, ties to even) unless compute is f32.
// `out` may be `x` itself.
void store_operands(Compute compute, const float* x, std::int64_t n, void* out);

}  // namespace powerprefill
