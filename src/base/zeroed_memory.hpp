// Memory for arrays: zero, aligned to cache lines.
#pragma once

#include <cstddef>

namespace powerprefill {

inline constexpr std::size_t kCacheLine = 64;

// `bytes` bytes of zeros at an address that kCacheLine divides. A large piece comes from the
// operating system page by page as threads write to it, each page near the one that was first, and
// in huge pages where the system has them. Throws std::bad_alloc.
void* take_zeroed(std::size_t bytes);

// Gives back what take_zeroed(bytes) gave; nullptr is fine.
void give_back(void* memory, std::size_t bytes) noexcept;

}  // namespace powerprefill
