#include "base/aligned_buffer.hpp"

#include <sys/mman.h>

#include <cstring>
#include <limits>
#include <new>

namespace powerprefill {

namespace {

// From here on the pages are worth a system call, and a huge page or more fits in. AddressSanitizer
// watches only what comes from operator new.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kLarge = std::numeric_limits<std::size_t>::max();
#else
constexpr std::size_t kLarge = std::size_t{4} << 20;
#endif

}  // namespace

void* take_zeroed(std::size_t bytes) {
  if (bytes < kLarge) {
    void* memory = ::operator new (bytes, std::align_val_t{kCacheLine});
    std::memset(memory, 0, bytes);
    return memory;
  }
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  ::madvise(memory, bytes, MADV_HUGEPAGE);  // advice: a system without them says no
  return memory;
}

void give_back(void* memory, std::size_t bytes) noexcept {
  if (bytes < kLarge) {
    ::operator delete (memory, std::align_val_t{kCacheLine});
  } else {
    ::munmap(memory, bytes);
  }
}

}  // namespace powerprefill
