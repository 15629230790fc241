#include "model/checkpoint.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "model/json_fields.hpp"

namespace powerprefill {

using nlohmann::json;

namespace {

bool is_there(const std::filesystem::path& path) {
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

Checkpoint::Checkpoint(const std::filesystem::path& folder) : folder_(folder) {
  const std::string single = "model.safetensors";
  const std::filesystem::path index = folder / "model.safetensors.index.json";
  if (is_there(folder / single)) {
    const auto file = files_.try_emplace(single, folder / single).first;
    for (const auto& [name, tensor] : file->second.tensors()) {
      files_of_tensors_.emplace(name, &file->second);
    }
  } else if (is_there(index)) {
    read_index(index);
  } else {
    throw Error(ErrorCode::input,
                fmt::format("{} has neither model.safetensors nor model.safetensors.index.json; "
                            "name the folder of a checkpoint, and convert one in another format "
                            "(pytorch_model.bin, gguf) to safetensors first",
                            folder.string()));
  }
}

void Checkpoint::read_index(const std::filesystem::path& path) {
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
                                            value.dump(), name));
    }
    auto file = files_.find(shard);
    if (file == files_.end()) {
      if (!is_there(folder_ / shard)) {
        throw Error(ErrorCode::input,
                    fmt::format("{} is missing, although {} names it for the tensor {}; fetch the "
                                "whole checkpoint",
                                (folder_ / shard).string(), path.string(), name));
      }
      file = files_.try_emplace(shard, folder_ / shard).first;
    }
    if (!file->second.tensors().contains(name)) {
      throw Error(ErrorCode::input,
                  fmt::format("{} has no tensor {}, although {} says so; fetch both files again",
                              file->second.path().string(), name, path.string()));
    }
    files_of_tensors_.emplace(name, &file->second);
  }
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> result;
  for (const auto& [name, file] : files_of_tensors_) result.push_back(name);
  return result;
}

Checkpoint::Tensor Checkpoint::find(const std::string& name,
                                    std::span<const std::int64_t> shape) const {
  const auto file = files_of_tensors_.find(name);
  if (file == files_of_tensors_.end()) {
    throw Error(ErrorCode::input, fmt::format("the checkpoint in {} has no tensor {} of shape {}; "
                                              "its config.json does not fit its weights",
                                              folder_.string(), name, text_of(shape)));
  }
  const SafetensorsFile::Tensor& tensor = file->second->tensors().at(name);
  const std::string path = file->second->path().string();
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
  return {*dtype, tensor.bytes};
}

}  // namespace powerprefill
