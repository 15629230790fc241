#include "math/rows/convert.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace powerprefill {

namespace {

// Whether a word has all bits of `exponent` set. No early end, so that it is vectorised.
template <typename Word>
bool any_has(std::span<const std::byte> bits, Word exponent) {
  Word found = 0;
  for (std::size_t i = 0; i < bits.size() / sizeof(Word); ++i) {
    Word word = 0;
    std::memcpy(&word, bits.data() + i * sizeof word, sizeof word);
    found |= static_cast<Word>((word & exponent) == exponent ? 1 : 0);
  }
  return found != 0;
}

}  // namespace

bool are_finite(DType dtype, std::span<const std::byte> bits) {
  switch (dtype) {
    case DType::f32:
      return !any_has<std::uint32_t>(bits, 0x7F800000U);
    case DType::bf16:
      return !any_has<std::uint16_t>(bits, 0x7F80U);
    case DType::f16:
      break;
  }
  return !any_has<std::uint16_t>(bits, 0x7C00U);
}

void widen(DType dtype, const std::byte* bits, std::span<float> data) {
  if (dtype == DType::f32) {
    std::memcpy(data.data(), bits, data.size_bytes());
    return;
  }
  for (std::size_t i = 0; i < data.size(); ++i) {
    std::uint16_t half = 0;
    std::memcpy(&half, bits + 2 * i, sizeof half);
    data[i] = dtype == DType::bf16 ? f32_from_bf16(half) : f32_from_f16(half);
  }
}

bool round_to(DType dtype, std::span<const float> data, std::byte* bits) {
  // The largest magnitude that still rounds to a finite value.
  const float limit = dtype == DType::f16    ? 65519.99609375F
                      : dtype == DType::bf16 ? 0x1.FEFFFEP127F
                                             : std::numeric_limits<float>::max();
  bool finite = true;
  for (const float value : data) finite = finite && std::fabs(value) <= limit;
  if (dtype == DType::f32) {
    std::memcpy(bits, data.data(), data.size_bytes());
    return finite;
  }
  for (std::size_t i = 0; i < data.size(); ++i) {
    const std::uint16_t half =
        dtype == DType::bf16 ? bf16_from_f32(data[i]) : f16_from_f32(data[i]);
    std::memcpy(bits + 2 * i, &half, sizeof half);
  }
  return finite;
}

}  // namespace powerprefill
