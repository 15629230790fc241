// One file in the safetensors format: u64 header length, JSON header, tensor bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "files/files.hpp"

namespace powerprefill {

// An open file whose header has been checked. Move-only.
class SafetensorsFile {
 public:
  struct Tensor {
    std::string dtype;                // as in the file, e.g. "BF16"
    std::vector<std::int64_t> shape;  // slowest first; empty for a scalar
    std::int64_t offset = 0;          // into the file; not aligned
    std::int64_t bytes = 0;           // of little-endian values, row-major
  };

  // Throws Error(input) naming the file and the tensor when the file is cut, its header is longer
  // than the file or 100 MB, is no JSON or malformed, or when tensors lie outside the file, overlap
  // or have a size that their shape and dtype do not give. Sizes of dtypes that are not known here
  // are not checked.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const noexcept { return file_.path(); }
  const std::map<std::string, Tensor>& tensors() const noexcept { return tensors_; }

  // Of what read() will be asked for soon.
  void will_read(std::int64_t offset, std::int64_t bytes) const noexcept {
    file_.will_read(offset, bytes);
  }
  // The bytes from `offset` of the file on. Throws Error(input) when the file has become too short.
  void read(std::int64_t offset, std::span<std::byte> bytes) const;
  // Throws Error(input) when the file has changed since it was opened.
  void require_unchanged() const;

 private:
  FileHandle file_;
  FileHandle::Version version_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace powerprefill
