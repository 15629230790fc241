#include "model/sources/tensor_source.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include "model/sources/safetensors_folder.hpp"

namespace powerprefill {

TensorFile::TensorFile(const std::filesystem::path& path)
    : file_(FileHandle::open(path, O_RDONLY, ErrorCode::input)),
      version_(file_.version(ErrorCode::input)) {}

// Read, not mapped: a file that is cut while it is mapped would kill the process by a signal.
void TensorFile::read(std::int64_t offset, std::span<std::byte> bytes) const {
  try {
    file_.read_at(bytes, offset, ErrorCode::input);
  } catch (const Error&) {
    require_unchanged();  // says more, if that is the reason
    throw;
  }
}

void TensorFile::require_unchanged() const {
  const FileHandle::Version now = file_.version(ErrorCode::input);
  if (now == version_) return;
  throw Error(ErrorCode::input,
              fmt::format("{} changed while it was read (it had {} bytes, and has {}); run the "
                          "command again when nothing writes to it",
                          path().string(), version_.size, now.size));
}

std::unique_ptr<TensorSource> open_tensors(const std::filesystem::path& folder) {
  if (SafetensorsFolder::is_there(folder)) return std::make_unique<SafetensorsFolder>(folder);
  throw Error(ErrorCode::input,
              fmt::format("{} has neither model.safetensors nor model.safetensors.index.json; "
                          "name the folder of a checkpoint, and convert one in another format "
                          "(pytorch_model.bin, gguf) to safetensors first",
                          folder.string()));
}

}  // namespace powerprefill
