// One file in the safetensors format: u64 header length, JSON header, tensor bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/sources/tensor_source.hpp"

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

  const TensorFile& file() const noexcept { return file_; }
  const std::map<std::string, Tensor>& tensors() const noexcept { return tensors_; }

 private:
  TensorFile file_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace powerprefill
