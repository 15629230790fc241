// Typed access to the objects of tokenizer.json, with errors that name the file and the place.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace powerprefill::text {

// A borrowed view of one object. `where` opens every message, e.g. "DIR/tokenizer.json: decoder".
class Fields {
 public:
  Fields(const nlohmann::json& object, std::string where);

  const nlohmann::json& value() const noexcept { return *object_; }
  const std::string& where() const noexcept { return where_; }

  // The value, or nullptr when the key is absent or null.
  const nlohmann::json* find(const std::string& key) const;
  // Throws when it is absent or null.
  const nlohmann::json& need(const std::string& key) const;
  bool flag(const std::string& key, bool absent) const;
  std::string string(const std::string& key) const;
  std::string string_or(const std::string& key, std::string absent) const;
  Fields object(const std::string& key) const;
  // The elements of an array of objects.
  std::vector<Fields> objects(const std::string& key) const;

  // Throws Error(input) "WHERE: PROBLEM".
  [[noreturn]] void fail(const std::string& problem) const;
  // Throws Error(input): WHERE has something that powerprefill does not support.
  [[noreturn]] void unsupported(const std::string& what) const;

 private:
  const nlohmann::json* object_;
  std::string where_;
};

// Tables are as long as the largest id, so that it has to be bounded.
inline constexpr std::uint64_t kLargestTokenId = (1 << 24) - 1;

// Throws Error(input) for what is not a number from 0 to kLargestTokenId.
std::int32_t token_id(const nlohmann::json& value, const Fields& context);

}  // namespace powerprefill::text
