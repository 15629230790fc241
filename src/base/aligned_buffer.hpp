// An owned array aligned to a cache line, zeroed on construction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "base/checked.hpp"

namespace powerprefill {

inline constexpr std::size_t kCacheLine = 64;

// `bytes` bytes of zeros at an address that kCacheLine divides. A large piece comes from the
// operating system page by page as threads write to it, each page near the one that was first, and
// in huge pages where the system has them. Throws std::bad_alloc.
void* take_zeroed(std::size_t bytes);

// Gives back what take_zeroed(bytes) gave; nullptr is fine.
void give_back(void* memory, std::size_t bytes) noexcept;

template <typename T>
class AlignedBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::int64_t size) : size_(checked_cast<std::size_t>(size)) {
    const auto bytes = static_cast<std::size_t>(checked_mul(size, sizeof(T)));
    data_ = {static_cast<T*>(take_zeroed(bytes)), Free{bytes}};
  }

  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

  T* data() noexcept { return data_.get(); }
  const T* data() const noexcept { return data_.get(); }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  std::size_t bytes() const noexcept { return size_ * sizeof(T); }
  std::span<T> span() noexcept { return {data(), size_}; }
  std::span<const T> span() const noexcept { return {data(), size_}; }
  T& operator[](std::size_t i) noexcept { return data_.get()[i]; }
  const T& operator[](std::size_t i) const noexcept { return data_.get()[i]; }

 private:
  struct Free {
    std::size_t bytes = 0;
    void operator()(T* p) const noexcept { give_back(p, bytes); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t size_ = 0;
};

}  // namespace powerprefill
