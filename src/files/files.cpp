#include "files/files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "files/read_input.hpp"

namespace powerprefill {

namespace {

// One system call moves at most this much; Linux itself stops at 2 GiB - 4 KiB.
constexpr std::size_t kLargestTransfer = std::size_t{1} << 30;

}  // namespace

ErrorCode code_of_errno(int error, ErrorCode otherwise) {
  return error == EIO || error == ESTALE ? ErrorCode::storage : otherwise;
}

std::string reason_of_errno(int error) {
  return std::generic_category().message(error);
}

std::string hint_of_errno(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return "; free space on that file system and run the command again";
    case EACCES:
    case EPERM:
    case EROFS:
      return "; choose a path that this user may write, or change the permissions";
    case EFBIG:
      return "; raise the limit of file sizes (ulimit -f), or choose another file system";
    case ENOENT:
      return "; check the path";
    default:
      return "";
  }
}

FileHandle::FileHandle(FileHandle&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}

FileHandle& FileHandle::operator=(FileHandle&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = std::exchange(other.fd_, -1);
    path_ = std::move(other.path_);
  }
  return *this;
}

FileHandle::~FileHandle() {
  if (fd_ >= 0) ::close(fd_);
}

FileHandle FileHandle::open(const std::filesystem::path& path, int flags, ErrorCode code,
                            unsigned mode) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) {
    const int error = errno;
    throw Error(code_of_errno(error, code),
                fmt::format("cannot open {}: {}{}", path.string(), reason_of_errno(error),
                            hint_of_errno(error)));
  }
  return adopt(fd, path);
}

FileHandle FileHandle::adopt(int fd, std::filesystem::path path) {
  FileHandle file;
  file.fd_ = fd;
  file.path_ = std::move(path);
  return file;
}

std::int64_t FileHandle::size(ErrorCode code) const {
  return version(code).size;
}

FileHandle::Version FileHandle::version(ErrorCode code) const {
  struct stat status {};
  if (::fstat(fd_, &status) != 0) {
    throw Error(code, fmt::format("cannot stat {}: {}", path_.string(), reason_of_errno(errno)));
  }
  return {status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

void FileHandle::will_read(std::int64_t offset, std::int64_t bytes) const noexcept {
  ::posix_fadvise(fd_, offset, bytes, POSIX_FADV_WILLNEED);
}

std::uint64_t FileHandle::inode() const {
  struct stat status {};
  if (::fstat(fd_, &status) != 0) {
    throw Error(ErrorCode::storage,
                fmt::format("cannot stat {}: {}", path_.string(), reason_of_errno(errno)));
  }
  return status.st_ino;
}

bool FileHandle::is_named(const std::filesystem::path& path) const {
  struct stat named {};
  struct stat opened {};
  return ::stat(path.c_str(), &named) == 0 && ::fstat(fd_, &opened) == 0 &&
         named.st_ino == opened.st_ino && named.st_dev == opened.st_dev;
}

void FileHandle::read_at(std::span<std::byte> data, std::int64_t offset, ErrorCode code) const {
  while (!data.empty()) {
    const auto count = ::pread(fd_, data.data(), std::min(data.size(), kLargestTransfer), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int error = count == 0 ? 0 : errno;
      throw Error(code_of_errno(error, code),
                  fmt::format("cannot read {} bytes at offset {} of {}: {}", data.size(), offset,
                              path_.string(),
                              count == 0 ? "the file ends before" : reason_of_errno(error)));
    }
    data = data.subspan(static_cast<std::size_t>(count));
    offset += count;
  }
}

void FileHandle::write_at(std::span<const std::byte> data, std::int64_t offset) const {
  while (!data.empty()) {
    const auto count = ::pwrite(fd_, data.data(), std::min(data.size(), kLargestTransfer), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int error = count == 0 ? ENOSPC : errno;
      throw Error(ErrorCode::storage,
                  fmt::format("cannot write {} bytes at offset {} of {}: {}{}", data.size(), offset,
                              path_.string(), reason_of_errno(error), hint_of_errno(error)));
    }
    data = data.subspan(static_cast<std::size_t>(count));
    offset += count;
  }
}

void FileHandle::start_sync(std::int64_t offset, std::int64_t bytes) const noexcept {
  if (bytes == 0) return;  // would mean all that follows
  ::sync_file_range(fd_, offset, bytes, SYNC_FILE_RANGE_WRITE);
}

void FileHandle::sync() const {
  if (::fsync(fd_) != 0) {
    const int error = errno;
    throw Error(ErrorCode::storage, fmt::format("cannot sync {}: {}{}", path_.string(),
                                                reason_of_errno(error), hint_of_errno(error)));
  }
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

void sync_folder(const std::filesystem::path& folder) {
  const FileHandle opened = FileHandle::open(folder, O_RDONLY | O_DIRECTORY, ErrorCode::storage);
  // Some file systems sync files alone.
  if (::fsync(opened.fd()) == 0 || errno == EINVAL || errno == EOPNOTSUPP) return;
  const int error = errno;
  throw Error(ErrorCode::storage, fmt::format("cannot sync {}: {}{}", folder.string(),
                                              reason_of_errno(error), hint_of_errno(error)));
}

void refuse_git_lfs_pointer(const std::filesystem::path& path, std::string_view begin,
                            std::int64_t size, ErrorCode code) {
  constexpr std::int64_t longest = 1024;  // by the specification of the pointers
  if (size > longest || !begin.starts_with("version https://git-lfs.github.com/spec/")) return;
  throw Error(code,
              fmt::format("{}: this is a Git LFS pointer of {} bytes, not the file that it stands "
                          "for; run `git lfs pull` in its folder, or fetch the file itself",
                          path.string(), size));
}

std::string read_text_file(const std::filesystem::path& path, ErrorCode code, std::int64_t limit) {
  InputStream input = InputStream::open(path, code);
  std::string text = read_rest(input, limit);
  refuse_git_lfs_pointer(path, text, static_cast<std::int64_t>(text.size()), code);
  return text;
}

}  // namespace powerprefill
