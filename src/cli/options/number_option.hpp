// What every option that is a number checks: the whole word is one, and in range.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

namespace powerprefill::cli {

// To be given to Option::transform(). The parser of the command line by itself takes what overflows
// for the largest number, and 010 for 8.
CLI::Validator whole_number(std::int64_t least, std::int64_t largest);
CLI::Validator whole_number_u64();
// From `least`, or from above it, to `largest`; never infinite or not a number.
CLI::Validator real_number(double least, double largest, bool from_above = false);

// Ranges that several subcommands share.
inline constexpr std::int64_t kMostTokens = std::int64_t{1} << 36;
inline constexpr std::int64_t kMostThreads = 4096;

}  // namespace powerprefill::cli
