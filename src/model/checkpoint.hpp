// The tensors of a checkpoint folder, in one file or in shards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.hpp"
#include "model/safetensors.hpp"

namespace powerprefill {

// A folder with `model.safetensors`, or with `model.safetensors.index.json` and the shards that it
// names. The single file counts when both are there, as in transformers. Move-only.
class Checkpoint {
 public:
  struct Tensor {
    DType dtype = DType::f32;
    std::span<const std::byte> bytes;  // row-major, as in the file
  };

  // Maps all files. Throws Error(input) that names the file which is missing or damaged.
  explicit Checkpoint(const std::filesystem::path& folder);

  bool contains(const std::string& name) const { return files_of_tensors_.contains(name); }
  // Sorted.
  std::vector<std::string> names() const;

  // Throws Error(input) naming the tensor and the file when it is missing, has another shape, or a
  // dtype other than bf16, f16 and f32.
  Tensor find(const std::string& name, std::span<const std::int64_t> shape) const;

  // The file that holds the tensor `name`, which must exist.
  const std::filesystem::path& file_of(const std::string& name) const {
    return files_of_tensors_.at(name)->path();
  }

 private:
  void read_index(const std::filesystem::path& path);

  std::filesystem::path folder_;
  std::map<std::string, SafetensorsFile> files_;
  std::map<std::string, const SafetensorsFile*> files_of_tensors_;
};

}  // namespace powerprefill
