// JSON from files and lines that nobody vouches for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace powerprefill {

// The bound that serde_json has, too. Within it, values may be copied, compared, shown and
// destroyed by recursion.
inline constexpr int kDeepestJson = 128;

// The value that `text` is. Throws std::invalid_argument "is not valid JSON: REASON" for anything
// else: also for one nested deeper than kDeepestJson and for numbers beyond a double.
nlohmann::json parse_json(std::string_view text);
// The same, with Error(input) that opens with `where`.
nlohmann::json parse_json(std::string_view text, const std::string& where);
// The value in a file of at most `limit` bytes; Error(input) names the file.
nlohmann::json read_json_file(const std::filesystem::path& path, std::int64_t limit);

// `value` as JSON, shortened.
std::string quoted(const nlohmann::json& value, std::size_t limit = 80);

}  // namespace powerprefill
