// Where tensors come from: the containers of checkpoints, one file each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.hpp"
#include "files/files.hpp"

namespace powerprefill {

// A file of tensors, read at offsets, that is expected not to change meanwhile. Move-only.
class TensorFile {
 public:
  // Throws Error(input) naming the file when it cannot be opened.
  explicit TensorFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const noexcept { return file_.path(); }
  std::int64_t bytes() const noexcept { return version_.size; }
  const FileHandle& handle() const noexcept { return file_; }

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
};

// A tensor as it is stored: row-major in `file`, which its source owns.
struct SourceTensor {
  DType dtype = DType::f32;
  std::int64_t elements = 0;
  const TensorFile* file = nullptr;
  std::int64_t offset = 0;  // into the file
};

// The tensors of a checkpoint, by the names that its family gives them.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  virtual bool contains(const std::string& name) const = 0;
  // Of all tensors that are known so far; sorted.
  virtual std::vector<std::string> names() const = 0;
  // Throws Error(input) naming the tensor and the file when one of them is missing or damaged, or
  // the tensor has another shape, or a dtype other than bf16, f16 and f32.
  virtual SourceTensor find(const std::string& name, std::span<const std::int64_t> shape) = 0;
  // The file that holds the tensor `name`, one of names().
  virtual std::filesystem::path file_of(const std::string& name) const = 0;
  // Throws Error(input) when one of the files has changed since it was opened.
  virtual void require_unchanged() const = 0;
};

// The checkpoint in `folder`, in the first container that is there. Throws Error(input) when there
// is none, and when its file or index is damaged.
std::unique_ptr<TensorSource> open_tensors(const std::filesystem::path& folder);

}  // namespace powerprefill
