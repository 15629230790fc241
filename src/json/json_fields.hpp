// Typed access to a JSON object, with errors that name the file and the key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "powerprefill/error.hpp"

namespace powerprefill {

// The object in a JSON file of at most `limit` bytes. Throws Error(input) that names the file when
// it cannot be read, is no JSON, or is not an object.
nlohmann::json read_json_object(const std::filesystem::path& path,
                                std::int64_t limit = std::int64_t{64} << 20);

// What is wrong about a key.
enum class JsonProblem {
  missing,
  not_boolean,
  not_integer,
  not_number,
  not_string,
  not_array,
  not_object,
};

// The error about a key of the object `where`; `value` is nullptr where the key is missing.
using JsonRefusal = Error (*)(const std::string& where, const std::string& key, JsonProblem problem,
                              const nlohmann::json* value);

// "WHERE: key `KEY` is VALUE, not a string", or what it is not. Error(input).
Error json_refusal(const std::string& where, const std::string& key, JsonProblem problem,
                   const nlohmann::json* value);

// A borrowed view of a JSON object. A key that is absent or null gives nullopt; a value of another
// type, or out of range, is an Error(input).
class JsonFields {
 public:
  // `where` opens every message: the file, and the path of the object in it. `refusal` has the
  // words of those about missing keys and types, also of the objects in this one.
  JsonFields(const nlohmann::json& object, std::string where, JsonRefusal refusal = json_refusal)
      : object_(&object), where_(std::move(where)), refusal_(refusal) {}

  const std::string& where() const noexcept { return where_; }
  const nlohmann::json& object() const noexcept { return *object_; }
  // The key is there, be its value null or not.
  bool mentions(const std::string& key) const;
  // The value, or nullptr when the key is absent or null.
  const nlohmann::json* find(const std::string& key) const;

  // Both bounds are inclusive.
  std::optional<std::int64_t> integer(const std::string& key, std::int64_t lowest,
                                      std::int64_t highest) const;
  // Finite.
  std::optional<double> number(const std::string& key) const;
  std::optional<bool> boolean(const std::string& key) const;
  std::optional<std::string> text(const std::string& key) const;
  // An object as fields of its own.
  std::optional<JsonFields> fields(const std::string& key) const;

  // `value`, or an Error that asks for the key.
  template <typename T>
  T need(const std::string& key, std::optional<T> value) const {
    if (!value) refuse(key, JsonProblem::missing);
    return *std::move(value);
  }
  const nlohmann::json& need(const std::string& key) const;
  std::string need_text(const std::string& key) const { return need(key, text(key)); }
  JsonFields need_fields(const std::string& key) const { return need(key, fields(key)); }
  // The elements of an array of objects.
  std::vector<JsonFields> need_objects(const std::string& key) const;

  // Throws Error(input) "WHERE: key `KEY` PROBLEM".
  [[noreturn]] void fail(const std::string& key, const std::string& problem) const;

 private:
  [[noreturn]] void refuse(const std::string& key, JsonProblem problem,
                           const nlohmann::json* value = nullptr) const;
  JsonFields fields_of(const std::string& key, const nlohmann::json& value) const;

  const nlohmann::json* object_;
  std::string where_;
  JsonRefusal refusal_;
};

}  // namespace powerprefill
