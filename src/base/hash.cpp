#include "base/hash.hpp"

#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <xxhash.h>

namespace powerprefill {

struct Hasher::State {
  XXH3_state_t xxh;
};

std::uint64_t hash_of(std::span<const std::byte> data) {
  return XXH3_64bits(data.data(), data.size());
}

std::uint64_t hash_of(std::string_view text) {
  return hash_of(std::as_bytes(std::span(text)));
}

Hasher::Hasher() : state_(std::make_unique<State>()) {
  XXH3_64bits_reset(&state_->xxh);
}
Hasher::~Hasher() = default;

void Hasher::update(std::span<const std::byte> data) {
  XXH3_64bits_update(&state_->xxh, data.data(), data.size());
}

std::uint64_t Hasher::digest() const {
  return XXH3_64bits_digest(&state_->xxh);
}

std::string hex_of(std::uint64_t value) {
  return fmt::format("{:016x}", value);
}

}  // namespace powerprefill
