// XXH3-64, the one hash of the cache file and of the fingerprints.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace powerprefill {

std::uint64_t hash_of(std::span<const std::byte> data);
std::uint64_t hash_of(std::string_view text);

// The same hash, fed piece by piece.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  void update(std::span<const std::byte> data);
  void update(std::string_view text) { update(std::as_bytes(std::span(text))); }
  void update(std::uint64_t value) { update(std::as_bytes(std::span(&value, 1))); }
  std::uint64_t digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// 16 lower-case hexadecimal digits.
std::string hex_of(std::uint64_t value);

}  // namespace powerprefill
