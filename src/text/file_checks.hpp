// What a tokenizer's files are refused for: what is wrong in them, what is not supported, and what
// is too much. The limits are far beyond what published files ask for, and low enough for any file
// to be answered soon. Every refusal is an Error(input).
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "json/json_fields.hpp"

namespace powerprefill::text {

// tokenizer.json and tokenizer.model.
inline constexpr std::int64_t kLargestTokenizer = std::int64_t{256} << 20;
inline constexpr std::size_t kMostSteps = 64;           // of one kind, one after the other
inline constexpr std::size_t kMostTokensAround = 1024;  // a text
// Tables are as long as the largest id.
inline constexpr std::uint64_t kLargestTokenId = (1 << 24) - 1;

// The object of a file, or a part of it. Its errors have the form of fail().
JsonFields tokenizer_fields(const nlohmann::json& object, std::string where);

// Throws "WHERE: PROBLEM; fetch the checkpoint again".
[[noreturn]] void fail(const JsonFields& part, const std::string& problem);
// Throws that `part` has something that powerprefill does not support.
[[noreturn]] void unsupported(const JsonFields& part, const std::string& what);

// The id that `value` is: a number from 0 to kLargestTokenId.
std::int32_t token_id(const nlohmann::json& value, const JsonFields& part);

void check_steps(std::size_t count, const JsonFields& part);

// `where`: the file.
void check_added_token(std::string_view content, const std::string& where);

// A text of `from` bytes may become one of 64 * from + 4096, by all of `what`.
void check_growth(std::size_t from, std::size_t to, std::string_view what);

}  // namespace powerprefill::text
