#include "cli/options/number_option.hpp"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <system_error>

#include "json/json.hpp"

namespace powerprefill::cli {

namespace {

template <typename Number, typename IsInRange>
CLI::Validator number(const std::string& range, const std::string& what,
                      const IsInRange& is_in_range) {
  const auto check = [=](std::string& word) -> std::string {
    Number value{};
    const char* end = word.data() + word.size();
    const auto [stop, error] = std::from_chars(word.data(), end, value);
    if (error != std::errc() || stop != end || !is_in_range(value)) {
      return fmt::format("{} is not {} {}", quoted(nlohmann::json(word)), what, range);
    }
    // In one spelling: without leading zeros, which the parser would take for octal.
    if constexpr (std::is_integral_v<Number>) word = std::to_string(value);
    return {};
  };
  return CLI::Validator(check, range);
}

template <typename Whole>
CLI::Validator whole(Whole least, Whole largest) {
  return number<Whole>(fmt::format("{} to {}", least, largest), "a whole number from",
                       [=](Whole value) { return value >= least && value <= largest; });
}

}  // namespace

CLI::Validator whole_number(std::int64_t least, std::int64_t largest) {
  return whole(least, largest);
}

CLI::Validator whole_number_u64() {
  return whole(std::uint64_t{0}, std::numeric_limits<std::uint64_t>::max());
}

CLI::Validator real_number(double least, double largest, bool from_above) {
  return number<double>(fmt::format("{}{} to {}", from_above ? "above " : "", least, largest),
                        "a number from", [=](double value) {
                          return (from_above ? value > least : value >= least) && value <= largest;
                        });
}

}  // namespace powerprefill::cli
