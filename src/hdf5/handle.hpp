// An owned HDF5 identifier of any kind: file, dataset, type, property list.
#pragma once

#include <cstdint>
#include <utility>

namespace powerprefill::hdf5 {

// Move-only; gives its reference back on destruction. The identifier is HDF5's hid_t, spelt out so
// that nothing outside this room has to include HDF5's headers.
class Handle {
 public:
  Handle() = default;
  // Takes over `id`.
  explicit Handle(std::int64_t id) noexcept : id_(id) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~Handle();

  std::int64_t id() const noexcept { return id_; }
  explicit operator bool() const noexcept { return id_ >= 0; }
  // Hands the identifier over to the caller.
  std::int64_t release() noexcept { return std::exchange(id_, -1); }

 private:
  std::int64_t id_ = -1;
};

}  // namespace powerprefill::hdf5
