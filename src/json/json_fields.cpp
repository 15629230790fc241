#include "json/json_fields.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "files/files.hpp"
#include "json/json.hpp"
#include "json/json_integer.hpp"

namespace powerprefill {

using nlohmann::json;

namespace {

// The number or name that begins at `begin`, outside of strings.
std::string_view token_at(std::string_view text, std::size_t begin) {
  const auto is_part = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '+' || c == '-';
  };
  std::size_t end = begin;
  while (end < text.size() && is_part(text[end])) ++end;
  return text.substr(begin, end - begin);
}

// What Python reads as an infinity or no number. A number beyond a double is an infinity to it.
bool is_not_finite(std::string_view token) {
  if (token == "NaN" || token == "Infinity" || token == "-Infinity") return true;
  double value = 0;
  const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
  return error == std::errc::result_out_of_range && end == token.data() + token.size() &&
         std::isinf(std::strtod(std::string(token).c_str(), nullptr));  // not one that is too small
}

// Python writes NaN, Infinity and -Infinity, which JSON does not have. As strings they are refused
// where a number is asked for, and only there.
std::string with_quoted_infinities(const std::string& text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    if (text[i] == '"') {
      for (++i; i < text.size() && text[i] != '"'; ++i) {
        if (text[i] == '\\') ++i;
      }
      i = std::min(i + 1, text.size());
      result.append(text, begin, i - begin);
      continue;
    }
    const std::string_view token = token_at(text, begin);
    i += std::max<std::size_t>(token.size(), 1);
    if (is_not_finite(token)) {
      result.append(1, '"').append(token).append(1, '"');
    } else {
      result.append(text, begin, i - begin);
    }
  }
  return result;
}

}  // namespace

json read_json_object(const std::filesystem::path& path, std::int64_t limit) {
  const std::string text = read_text_file(path, ErrorCode::input, limit);
  json value = parse_json(with_quoted_infinities(text), path.string());
  if (!value.is_object()) {
    throw Error(ErrorCode::input, fmt::format("{} holds a JSON {} where an object is expected",
                                              path.string(), value.type_name()));
  }
  return value;
}

bool JsonFields::mentions(const std::string& key) const {
  return object_->contains(key);
}

const json* JsonFields::find(const std::string& key) const {
  const auto found = object_->find(key);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

std::optional<std::int64_t> JsonFields::integer(const std::string& key, std::int64_t lowest,
                                                std::int64_t highest) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer()) fail(key, fmt::format("is {}, not an integer", quoted(*value)));
  const std::optional<std::int64_t> integer = integer_of(*value);
  if (!integer || *integer < lowest || *integer > highest) {
    fail(key, fmt::format("is {}, outside {} to {}", quoted(*value), lowest, highest));
  }
  return integer;
}

std::optional<double> JsonFields::number(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !std::isfinite(value->get<double>())) {
    fail(key, fmt::format("is {}, not a finite number", quoted(*value)));
  }
  return value->get<double>();
}

std::optional<bool> JsonFields::boolean(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) fail(key, fmt::format("is {}, not true or false", quoted(*value)));
  return value->get<bool>();
}

std::optional<std::string> JsonFields::text(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) fail(key, fmt::format("is {}, not a string", quoted(*value)));
  return value->get<std::string>();
}

std::optional<JsonFields> JsonFields::fields(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) fail(key, fmt::format("is {}, not an object", quoted(*value)));
  return JsonFields(*value, where_ + ": " + key);
}

void JsonFields::fail(const std::string& key, const std::string& problem) const {
  throw Error(ErrorCode::input, fmt::format("{}: key `{}` {}", where_, key, problem));
}

}  // namespace powerprefill
