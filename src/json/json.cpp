#include "json/json.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "base/shortened.hpp"
#include "files/files.hpp"

namespace powerprefill {

using nlohmann::json;

namespace {

// Of any text, JSON or not: brackets outside of strings. A separate pass, because the parser's
// callbacks would cost more than parsing.
void check_depth(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepestJson) {
        throw std::invalid_argument(fmt::format(
            "is not valid JSON: it is nested deeper than {} levels at byte {}", kDeepestJson, i));
      }
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
}

}  // namespace

json parse_json(std::string_view text) {
  check_depth(text);
  try {
    return json::parse(text);
  } catch (const json::exception& error) {
    // It quotes what was read last, which may be long.
    throw std::invalid_argument(fmt::format("is not valid JSON: {}", shortened(error.what(), 240)));
  }
}

json parse_json(std::string_view text, const std::string& where) {
  try {
    return parse_json(text);
  } catch (const std::invalid_argument& error) {
    throw Error(ErrorCode::input, fmt::format("{} {}; fetch the file again", where, error.what()));
  }
}

json read_json_file(const std::filesystem::path& path, std::int64_t limit) {
  return parse_json(read_text_file(path, ErrorCode::input, limit), path.string());
}

std::string quoted(const json& value, std::size_t limit) {
  return shortened(value.dump(-1, ' ', false, json::error_handler_t::replace), limit);
}

}  // namespace powerprefill
