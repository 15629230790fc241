#include "text/fields.hpp"

#include <fmt/format.h>

#include "json/json.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill::text {

namespace {

constexpr std::size_t kLongestProblem = 240;  // bytes; it may quote the file

}  // namespace

Fields::Fields(const nlohmann::json& object, std::string where)
    : object_(&object), where_(std::move(where)) {
  if (!object.is_object()) fail("is not an object");
}

const nlohmann::json* Fields::find(const std::string& key) const {
  const auto found = object_->find(key);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

const nlohmann::json& Fields::need(const std::string& key) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) fail(fmt::format("key `{}` is missing", key));
  return *value;
}

bool Fields::flag(const std::string& key, bool absent) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return absent;
  if (!value->is_boolean()) fail(fmt::format("key `{}` is neither true nor false", key));
  return value->get<bool>();
}

std::string Fields::string(const std::string& key) const {
  const nlohmann::json& value = need(key);
  if (!value.is_string()) fail(fmt::format("key `{}` is not a string", key));
  return value.get<std::string>();
}

std::string Fields::string_or(const std::string& key, std::string absent) const {
  return find(key) == nullptr ? std::move(absent) : string(key);
}

Fields Fields::object(const std::string& key) const {
  return {need(key), fmt::format("{}: {}", where_, shortened(key))};
}

std::vector<Fields> Fields::objects(const std::string& key) const {
  const nlohmann::json& list = need(key);
  if (!list.is_array()) fail(fmt::format("key `{}` is not a list", key));
  std::vector<Fields> result;
  for (std::size_t i = 0; i < list.size(); ++i) {
    result.emplace_back(list[i], fmt::format("{}: {}[{}]", where_, key, i));
  }
  return result;
}

void Fields::fail(const std::string& problem) const {
  throw Error(ErrorCode::input, fmt::format("{}: {}; fetch the checkpoint again", where_,
                                            shortened(problem, kLongestProblem)));
}

void Fields::unsupported(const std::string& what) const {
  throw Error(
      ErrorCode::input,
      fmt::format("{}: {} is not supported; use token ids instead of text (--tokens, --ids)",
                  where_, shortened(what, kLongestProblem)));
}

std::int32_t token_id(const nlohmann::json& value, const Fields& context) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > kLargestTokenId) {
    context.fail(fmt::format("{} is not a token id", quoted(value)));
  }
  return static_cast<std::int32_t>(value.get<std::uint64_t>());
}

}  // namespace powerprefill::text
