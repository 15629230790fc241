#include "json/json_fields.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/shortened.hpp"
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

const char* expected_by(JsonProblem problem) {
  switch (problem) {
    case JsonProblem::not_boolean:
      return "true or false";
    case JsonProblem::not_integer:
      return "an integer";
    case JsonProblem::not_number:
      return "a finite number";
    case JsonProblem::not_string:
      return "a string";
    case JsonProblem::not_array:
      return "a list";
    case JsonProblem::not_object:
      return "an object";
    case JsonProblem::missing:
      break;
  }
  return "there";
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

Error json_refusal(const std::string& where, const std::string& key, JsonProblem problem,
                   const json* value) {
  if (value == nullptr) {
    return {ErrorCode::input,
            fmt::format("{}: key `{}` is missing; complete the file or fetch the checkpoint again",
                        where, key)};
  }
  return {ErrorCode::input, fmt::format("{}: key `{}` is {}, not {}", where, key, quoted(*value),
                                        expected_by(problem))};
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
  if (!value->is_number_integer()) refuse(key, JsonProblem::not_integer, value);
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
    refuse(key, JsonProblem::not_number, value);
  }
  return value->get<double>();
}

std::optional<bool> JsonFields::boolean(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) refuse(key, JsonProblem::not_boolean, value);
  return value->get<bool>();
}

std::optional<std::string> JsonFields::text(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) refuse(key, JsonProblem::not_string, value);
  return value->get<std::string>();
}

std::optional<JsonFields> JsonFields::fields(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return fields_of(key, *value);
}

const json& JsonFields::need(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) refuse(key, JsonProblem::missing);
  return *value;
}

std::vector<JsonFields> JsonFields::need_objects(const std::string& key) const {
  const json& list = need(key);
  if (!list.is_array()) refuse(key, JsonProblem::not_array, &list);
  std::vector<JsonFields> result;
  for (std::size_t i = 0; i < list.size(); ++i) {
    result.push_back(fields_of(fmt::format("{}[{}]", key, i), list[i]));
  }
  return result;
}

JsonFields JsonFields::fields_of(const std::string& key, const json& value) const {
  if (!value.is_object()) refuse(key, JsonProblem::not_object, &value);
  return {value, fmt::format("{}: {}", where_, shortened(key)), refusal_};
}

void JsonFields::fail(const std::string& key, const std::string& problem) const {
  throw Error(ErrorCode::input, fmt::format("{}: key `{}` {}", where_, key, problem));
}

void JsonFields::refuse(const std::string& key, JsonProblem problem, const json* value) const {
  throw refusal_(where_, key, problem, value);
}

}  // namespace powerprefill
