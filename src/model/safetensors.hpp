// One file in the safetensors format: u64 header length, JSON header, tensor bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/files.hpp"

namespace powerprefill {

// A mapped file whose header has been checked. Move-only.
class SafetensorsFile {
 public:
  struct Tensor {
    std::string dtype;                 // as in the file, e.g. "BF16"
    std::vector<std::int64_t> shape;   // slowest first; empty for a scalar
    std::span<const std::byte> bytes;  // little-endian values, row-major; not aligned
  };

  // Throws Error(input) naming the file and the tensor when the file is cut, its header is longer
  // than the file or 100 MB, is no JSON or malformed, or when tensors lie outside the file, overlap
  // or have a size that their shape and dtype do not give. Sizes of dtypes that are not known here
  // are not checked.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const noexcept { return path_; }
  const std::map<std::string, Tensor>& tensors() const noexcept { return tensors_; }

 private:
  std::filesystem::path path_;
  MappedFile file_;
  std::map<std::string, Tensor> tensors_;
};

// Hints for the pages that hold `bytes` of a mapped file: they will be read soon; they are done
// with, and need not count as resident any more (reading them again still works).
void will_read(std::span<const std::byte> bytes) noexcept;
void have_read(std::span<const std::byte> bytes) noexcept;

}  // namespace powerprefill
