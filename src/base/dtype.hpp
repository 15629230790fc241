// The element types of weights and caches, and their scalar conversions.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "powerprefill/types.hpp"

namespace powerprefill {

enum class DType { f32, bf16, f16 };

constexpr std::size_t bytes_of(DType dtype) {
  return dtype == DType::f32 ? 4 : 2;
}

constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::f16:
      return "f16";
  }
  return "?";
}

constexpr KvType kv_type_of(DType dtype) {
  return dtype == DType::f32 ? KvType::f32 : dtype == DType::bf16 ? KvType::bf16 : KvType::f16;
}

constexpr std::optional<DType> dtype_from_name(std::string_view name) {
  for (DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    if (name_of(dtype) == name) return dtype;
  }
  return std::nullopt;
}

inline float f32_from_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// Rounds to nearest, ties to even; a NaN stays a (quiet) NaN.
inline std::uint16_t bf16_from_f32(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

float f32_from_f16(std::uint16_t bits);

// Rounds to nearest, ties to even; values from 65520 on become infinite.
std::uint16_t f16_from_f32(float value);

}  // namespace powerprefill
