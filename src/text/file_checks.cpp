#include "text/file_checks.hpp"

#include <fmt/format.h>

#include "json/json.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill::text {

namespace {

constexpr std::size_t kLongestAddedToken = 1024;  // bytes
// NFKD makes 33 bytes of the 3 of U+FDFA, and a space may become three.
constexpr std::size_t kMostGrowth = 64;
constexpr std::size_t kFreeGrowth = 4096;  // a prefix is put before a short text too

}  // namespace

void check_steps(std::size_t count, const Fields& description) {
  if (count <= kMostSteps) return;
  description.fail(
      fmt::format("is step {} of its kind; at most {} are accepted", count, kMostSteps));
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
