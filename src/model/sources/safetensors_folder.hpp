// A checkpoint folder as transformers saves it: one safetensors file, or shards and their index.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/sources/safetensors.hpp"
#include "model/sources/tensor_source.hpp"

namespace powerprefill {

// `model.safetensors`, or `model.safetensors.index.json` and the shards that it names. The single
// file counts when both are there, as in transformers. Move-only.
class SafetensorsFolder : public TensorSource {
 public:
  static bool is_there(const std::filesystem::path& folder);
  // Opens the single file, or reads the index. Throws Error(input) that names the file which is
  // missing or damaged. @pre is_there(folder)
  explicit SafetensorsFolder(const std::filesystem::path& folder);

  bool contains(const std::string& name) const override { return shards_.contains(name); }
  // Of all tensors that the files opened so far hold, or the index names.
  std::vector<std::string> names() const override;
  // Opens the tensor's file, if it is the first from there: a shard with nothing that is needed may
  // be absent.
  SourceTensor find(const std::string& name, std::span<const std::int64_t> shape) override;
  std::filesystem::path file_of(const std::string& name) const override;
  void require_unchanged() const override;

 private:
  void read_index(const std::filesystem::path& path);

  const SafetensorsFile& open(const std::string& shard, const std::string& tensor);

  std::filesystem::path folder_;
  std::filesystem::path index_;  // empty for a single file
  std::map<std::string, SafetensorsFile> files_;
  std::map<std::string, std::string> shards_;  // of the tensors that can be found
};

}  // namespace powerprefill
