// File descriptors and mappings with errors that name the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "powerprefill/error.hpp"

namespace powerprefill {

// Owns a POSIX file descriptor. Move-only; closes on destruction.
class FileHandle {
 public:
  FileHandle() = default;
  FileHandle(FileHandle&& other) noexcept;
  FileHandle& operator=(FileHandle&& other) noexcept;
  FileHandle(const FileHandle&) = delete;
  FileHandle& operator=(const FileHandle&) = delete;
  ~FileHandle();

  // open(2) with O_CLOEXEC; the umask applies to `mode`. Throws Error(code) naming `path` and the
  // reason.
  static FileHandle open(const std::filesystem::path& path, int flags, ErrorCode code,
                         unsigned mode = 0666);
  // Takes over an open descriptor.
  static FileHandle adopt(int fd, std::filesystem::path path);

  int fd() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  const std::filesystem::path& path() const noexcept { return path_; }
  std::int64_t size(ErrorCode code) const;
  // Number that identifies the file on its file system, whatever its name. Throws Error(storage).
  std::uint64_t inode() const;
  // Whether `path` names this file, and not one that has replaced it, or none.
  bool is_named(const std::filesystem::path& path) const;

  // Tells, as far as the file system does, whether the content is still what it was.
  struct Version {
    std::int64_t size = 0;
    std::int64_t seconds = 0;  // of the last change
    std::int64_t nanoseconds = 0;

    bool operator==(const Version&) const = default;
  };
  Version version(ErrorCode code) const;

  // Says that `bytes` from `offset` on will be read soon.
  void will_read(std::int64_t offset, std::int64_t bytes) const noexcept;
  // Reads exactly data.size() bytes at `offset`; a short file is an Error(code) too.
  void read_at(std::span<std::byte> data, std::int64_t offset, ErrorCode code) const;
  // Writes all of `data` at `offset`; Error(storage) says what is full or broken.
  void write_at(std::span<const std::byte> data, std::int64_t offset) const;
  // Begins to bring what was written there to the disk, where the system can: sync() has less to
  // wait for, and reports what fails. May wait for the disk's queue.
  void start_sync(std::int64_t offset, std::int64_t bytes) const noexcept;
  // fsync; a failure is an Error(storage).
  void sync() const;

 private:
  int fd_ = -1;
  std::filesystem::path path_;
};

// The folder that `path` is in: "." for a bare name.
std::filesystem::path folder_of(const std::filesystem::path& path);

// fsync of a folder, so that a rename in it survives a power cut.
void sync_folder(const std::filesystem::path& folder);

// Throws Error(code) when a file of `size` bytes that begins with `begin` is a Git LFS pointer:
// what a clone without Git LFS leaves in a large file's place.
void refuse_git_lfs_pointer(const std::filesystem::path& path, std::string_view begin,
                            std::int64_t size, ErrorCode code);

// The whole file as a string; Error(code) when it cannot be read, is larger than `limit` bytes, or
// is a Git LFS pointer.
std::string read_text_file(const std::filesystem::path& path, ErrorCode code,
                           std::int64_t limit = std::int64_t{1} << 30);

// What a disk or server says that fails is Error(storage), whatever the file means to the caller.
ErrorCode code_of_errno(int error, ErrorCode otherwise);
// "No such file or directory" and the like.
std::string reason_of_errno(int error);
// "; check the path" and the like: what to do about it, as the end of a message. May be empty.
std::string hint_of_errno(int error);

}  // namespace powerprefill
