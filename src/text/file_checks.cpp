#include "text/file_checks.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "base/shortened.hpp"
#include "json/json.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill::text {

namespace {

constexpr std::size_t kLongestProblem = 240;      // bytes; it may quote the file
constexpr std::size_t kLongestAddedToken = 1024;  // bytes
// NFKD makes 33 bytes of the 3 of U+FDFA, and a space may become three.
constexpr std::size_t kMostGrowth = 64;
constexpr std::size_t kFreeGrowth = 4096;  // a prefix is put before a short text too

Error wrong(const std::string& where, const std::string& problem) {
  return {ErrorCode::input, fmt::format("{}: {}; fetch the checkpoint again", where,
                                        shortened(problem, kLongestProblem))};
}

// Values are not quoted: one of another type may be a whole vocabulary.
Error refusal(const std::string& where, const std::string& key, JsonProblem problem,
              const nlohmann::json* /*value*/) {
  switch (problem) {
    case JsonProblem::missing:
      return wrong(where, fmt::format("key `{}` is missing", key));
    case JsonProblem::not_boolean:
      return wrong(where, fmt::format("key `{}` is neither true nor false", key));
    case JsonProblem::not_integer:
    case JsonProblem::not_number:
      return wrong(where, fmt::format("key `{}` is not a number", key));
    case JsonProblem::not_string:
      return wrong(where, fmt::format("key `{}` is not a string", key));
    case JsonProblem::not_array:
      return wrong(where, fmt::format("key `{}` is not a list", key));
    case JsonProblem::not_object:
      break;
  }
  return wrong(fmt::format("{}: {}", where, shortened(key)), "is not an object");
}

}  // namespace

JsonFields tokenizer_fields(const nlohmann::json& object, std::string where) {
  if (!object.is_object()) throw wrong(where, "is not an object");
  return {object, std::move(where), refusal};
}

void fail(const JsonFields& part, const std::string& problem) {
  throw wrong(part.where(), problem);
}

void unsupported(const JsonFields& part, const std::string& what) {
  throw Error(
      ErrorCode::input,
      fmt::format("{}: {} is not supported; use token ids instead of text (--tokens, --ids)",
                  part.where(), shortened(what, kLongestProblem)));
}

std::int32_t token_id(const nlohmann::json& value, const JsonFields& part) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > kLargestTokenId) {
    fail(part, fmt::format("{} is not a token id", quoted(value)));
  }
  return static_cast<std::int32_t>(value.get<std::uint64_t>());
}

void check_steps(std::size_t count, const JsonFields& part) {
  if (count <= kMostSteps) return;
  fail(part, fmt::format("is step {} of its kind; at most {} are accepted", count, kMostSteps));
}

void check_added_token(std::string_view content, const std::string& where) {
  if (content.size() <= kLongestAddedToken) return;
  throw Error(
      ErrorCode::input,
      fmt::format("{}: the added token `{}` has {} bytes; at most {} are accepted; fetch the "
                  "checkpoint again",
                  where, shortened(content), content.size(), kLongestAddedToken));
}

void check_growth(std::size_t from, std::size_t to, std::string_view what) {
  if (to <= kMostGrowth * from + kFreeGrowth) return;
  throw Error(ErrorCode::input,
              fmt::format("{} of the tokenizer makes more than {} bytes out of {}; fetch the "
                          "checkpoint again, or give token ids instead of text (--tokens)",
                          what, kMostGrowth * from + kFreeGrowth, from));
}

}  // namespace powerprefill::text
