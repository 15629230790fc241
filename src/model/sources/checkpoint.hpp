// The tensors of a checkpoint folder, in one file or in shards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.hpp"
#include "model/sources/safetensors.hpp"

namespace powerprefill {

// A folder with `model.safetensors`, or with `model.safetensors.index.json` and the shards that it
// names. The single file counts when both are there, as in transformers. Move-only.
class Checkpoint {
 public:
  // Row-major in `file`, which the checkpoint owns.
  struct Tensor {
    DType dtype = DType::f32;
    std::int64_t elements = 0;
    const SafetensorsFile* file = nullptr;
    std::int64_t offset = 0;  // into the file
  };

  // Opens the single file, or reads the index. Throws Error(input) that names the file which is
  // missing or damaged.
  explicit Checkpoint(const std::filesystem::path& folder);

  bool contains(const std::string& name) const { return shards_.contains(name); }
  // Of all tensors that the files opened so far hold, or the index names; sorted.
  std::vector<std::string> names() const;

  // Opens the tensor's file, if it is the first from there: a shard with nothing that is needed may
  // be absent. Throws Error(input) naming the tensor and the file when one of them is missing, the
  // file is damaged, or the tensor has another shape, or a dtype other than bf16, f16 and f32.
  Tensor find(const std::string& name, std::span<const std::int64_t> shape);

  // The file that holds the tensor `name`, one of names().
  std::filesystem::path file_of(const std::string& name) const;
  // Throws Error(input) when one of the files has changed since it was opened.
  void require_unchanged() const;

 private:
  void read_index(const std::filesystem::path& path);

  const SafetensorsFile& open(const std::string& shard, const std::string& tensor);

  std::filesystem::path folder_;
  std::filesystem::path index_;  // empty for a single file
  std::map<std::string, SafetensorsFile> files_;
  std::map<std::string, std::string> shards_;  // of the tensors that can be found
};

}  // namespace powerprefill
