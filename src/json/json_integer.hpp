// Integers in JSON, which may be unsigned ones beyond int64.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

namespace powerprefill {

// The integer that a nlohmann::basic_json `value` is; nullopt for anything else, and for what int64
// does not hold: get<std::int64_t>() would make it a negative number.
template <typename Json>
std::optional<std::int64_t> integer_of(const Json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  if (value.is_number_unsigned() &&
      !std::in_range<std::int64_t>(value.template get<std::uint64_t>())) {
    return std::nullopt;
  }
  return value.template get<std::int64_t>();
}

}  // namespace powerprefill
