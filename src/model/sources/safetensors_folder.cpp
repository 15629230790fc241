#include "model/sources/safetensors_folder.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/shortened.hpp"
#include "json/json.hpp"
#include "json/json_fields.hpp"

namespace powerprefill {

using nlohmann::json;

namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

bool is_present(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

std::string text_of(std::span<const std::int64_t> shape) {
  return fmt::format("({})", fmt::join(shape, ", "));
}

std::optional<DType> dtype_of(const std::string& name) {
  if (name == "F32") return DType::f32;
  if (name == "BF16") return DType::bf16;
  if (name == "F16") return DType::f16;
  return std::nullopt;
}

}  // namespace

bool SafetensorsFolder::is_there(const std::filesystem::path& folder) {
  return is_present(folder / kSingle) || is_present(folder / kIndex);
}

SafetensorsFolder::SafetensorsFolder(const std::filesystem::path& folder) : folder_(folder) {
  if (is_present(folder / kSingle)) {
    for (const auto& [name, tensor] : open(kSingle, "").tensors()) shards_.emplace(name, kSingle);
  } else {
    read_index(folder / kIndex);
  }
}

void SafetensorsFolder::read_index(const std::filesystem::path& path) {
  const json index = read_json_object(path);
  const JsonFields fields(index, path.string());
  const json empty = json::object();
  const json* map = fields.fields("weight_map") ? fields.find("weight_map") : &empty;
  if (map->empty()) fields.fail("weight_map", "is missing or empty; fetch the file again");
  for (const auto& [name, value] : map->items()) {
    const std::string shard = value.is_string() ? value.get<std::string>() : std::string();
    if (shard.empty() || shard == "." || shard == ".." || shard.find('/') != std::string::npos ||
        shard.find('\0') != std::string::npos) {
      fields.fail("weight_map", fmt::format("gives {} for the tensor {}, which is not the name of "
                                            "a file in the same folder",
                                            quoted(value), shortened(name)));
    }
    shards_.emplace(name, shard);
  }
  index_ = path;
}

const SafetensorsFile& SafetensorsFolder::open(const std::string& shard,
                                               const std::string& tensor) {
  const auto known = files_.find(shard);
  if (known != files_.end()) return known->second;
  if (!is_present(folder_ / shard)) {
    throw Error(ErrorCode::input,
                fmt::format("{} is missing, although {} names it for the tensor {}; fetch the "
                            "whole checkpoint",
                            (folder_ / shard).string(), index_.string(), tensor));
  }
  return files_.try_emplace(shard, folder_ / shard).first->second;
}

std::vector<std::string> SafetensorsFolder::names() const {
  std::set<std::string> names;
  for (const auto& [name, shard] : shards_) names.insert(name);
  for (const auto& [shard, file] : files_) {
    for (const auto& [name, tensor] : file.tensors()) names.insert(name);
  }
  return {names.begin(), names.end()};
}

std::filesystem::path SafetensorsFolder::file_of(const std::string& name) const {
  if (const auto shard = shards_.find(name); shard != shards_.end()) return folder_ / shard->second;
  for (const auto& [shard, file] : files_) {
    if (file.tensors().contains(name)) return file.file().path();
  }
  throw Error(ErrorCode::internal, "no file holds " + name);
}

void SafetensorsFolder::require_unchanged() const {
  for (const auto& [shard, file] : files_) file.file().require_unchanged();
}

SourceTensor SafetensorsFolder::find(const std::string& name, std::span<const std::int64_t> shape) {
  const auto shard = shards_.find(name);
  if (shard == shards_.end()) {
    throw Error(ErrorCode::input, fmt::format("the checkpoint in {} has no tensor {} of shape {}; "
                                              "its config.json does not fit its weights",
                                              folder_.string(), name, text_of(shape)));
  }
  const SafetensorsFile& file = open(shard->second, name);
  const std::string path = file.file().path().string();
  const auto found = file.tensors().find(name);
  if (found == file.tensors().end()) {
    throw Error(ErrorCode::input,
                fmt::format("{} has no tensor {}, although {} says so; fetch both files again",
                            path, name, index_.string()));
  }
  const SafetensorsFile::Tensor& tensor = found->second;
  if (!std::ranges::equal(tensor.shape, shape)) {
    throw Error(ErrorCode::input,
                fmt::format("tensor {} in {} has shape {} where config.json asks for {}; the two "
                            "do not belong together",
                            name, path, text_of(tensor.shape), text_of(shape)));
  }
  const std::optional<DType> dtype = dtype_of(tensor.dtype);
  if (!dtype) {
    throw Error(ErrorCode::input, fmt::format("tensor {} in {} has dtype {}; supported are BF16, "
                                              "F16 and F32, so convert the checkpoint",
                                              name, path, tensor.dtype));
  }
  return {*dtype, tensor.bytes / static_cast<std::int64_t>(bytes_of(*dtype)), &file.file(),
          tensor.offset};
}

}  // namespace powerprefill
