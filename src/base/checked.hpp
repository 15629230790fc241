// Integer conversions and products that refuse to overflow.
#pragma once

#include <cstdint>
#include <source_location>
#include <string>
#include <utility>

#include "powerprefill/error.hpp"

namespace powerprefill {

// `value` as To, or an internal Error when To cannot hold it.
template <typename To, typename From>
constexpr To checked_cast(From value,
                          std::source_location where = std::source_location::current()) {
  if (!std::in_range<To>(value)) {
    throw Error(ErrorCode::internal, "integer out of range: " + std::to_string(value) + " at " +
                                         where.file_name() + ":" + std::to_string(where.line()));
  }
  return static_cast<To>(value);
}

// The product as int64, or an internal Error when it overflows.
constexpr std::int64_t checked_mul(std::int64_t a, std::int64_t b) {
  std::int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) {
    throw Error(ErrorCode::internal,
                "integer overflow: " + std::to_string(a) + " x " + std::to_string(b));
  }
  return product;
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}
constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) {
  return ceil_div(a, b) * b;
}

}  // namespace powerprefill
