#include "model/json_fields.hpp"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/files.hpp"

namespace powerprefill {

using nlohmann::json;

json read_json_object(const std::filesystem::path& path, std::int64_t limit) {
  const std::string text = read_text_file(path, ErrorCode::input, limit);
  json value;
  try {
    value = json::parse(text);
  } catch (const json::parse_error& error) {
    throw Error(ErrorCode::input, fmt::format("{} is not valid JSON: {}; fetch the file again",
                                              path.string(), error.what()));
  }
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
  if (!value->is_number_integer()) fail(key, fmt::format("is {}, not an integer", value->dump()));
  const bool huge = value->is_number_unsigned() &&
                    value->get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX);
  if (huge || value->get<std::int64_t>() < lowest || value->get<std::int64_t>() > highest) {
    fail(key, fmt::format("is {}, outside {} to {}", value->dump(), lowest, highest));
  }
  return value->get<std::int64_t>();
}

std::optional<double> JsonFields::number(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !std::isfinite(value->get<double>())) {
    fail(key, fmt::format("is {}, not a finite number", value->dump()));
  }
  return value->get<double>();
}

std::optional<bool> JsonFields::boolean(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) fail(key, fmt::format("is {}, not true or false", value->dump()));
  return value->get<bool>();
}

std::optional<std::string> JsonFields::text(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) fail(key, fmt::format("is {}, not a string", value->dump()));
  return value->get<std::string>();
}

std::optional<JsonFields> JsonFields::fields(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) fail(key, fmt::format("is {}, not an object", value->dump()));
  return JsonFields(*value, where_ + ": " + key);
}

void JsonFields::fail(const std::string& key, const std::string& problem) const {
  throw Error(ErrorCode::input, fmt::format("{}: key `{}` {}", where_, key, problem));
}

}  // namespace powerprefill
