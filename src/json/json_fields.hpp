// Typed access to a JSON object, with errors that name the file and the key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>

namespace powerprefill {

// The object in a JSON file of at most `limit` bytes. Throws Error(input) that names the file when
// it cannot be read, is no JSON, or is not an object.
nlohmann::json read_json_object(const std::filesystem::path& path,
                                std::int64_t limit = std::int64_t{64} << 20);

// A borrowed view of a JSON object. A key that is absent or null gives nullopt; a value of another
// type, or out of range, is an Error(input).
class JsonFields {
 public:
  // `where` opens every message: the file, and the path of the object in it.
  JsonFields(const nlohmann::json& object, std::string where)
      : object_(&object), where_(std::move(where)) {}

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
    if (!value) fail(key, "is missing; complete the file or fetch the checkpoint again");
    return *value;
  }

  // Throws Error(input) "WHERE: key `KEY` PROBLEM".
  [[noreturn]] void fail(const std::string& key, const std::string& problem) const;

 private:
  const nlohmann::json* object_;
  std::string where_;
};

}  // namespace powerprefill
