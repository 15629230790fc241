// How much a tokenizer file may ask for: far beyond what published ones do, and little enough for
// any file to be answered soon. What is beyond is an Error(input).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "text/fields.hpp"

namespace powerprefill::text {

inline constexpr std::size_t kMostSteps = 64;           // of one kind, one after the other
inline constexpr std::size_t kMostTokensAround = 1024;  // a text

void check_steps(std::size_t count, const Fields& description);

// `where`: the file.
void check_added_token(std::string_view content, const std::string& where);

// A text of `from` bytes may become one of 64 * from + 4096, by all of `what`.
void check_growth(std::size_t from, std::size_t to, std::string_view what);

}  // namespace powerprefill::text
