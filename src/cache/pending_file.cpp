#include "cache/pending_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <random>
#include <system_error>
#include <utility>

#include "base/hash.hpp"
#include "cache/file_lock.hpp"

namespace powerprefill {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kSuffix = ".tmp";
constexpr std::string_view kProbeSuffix = ".probe.tmp";
constexpr std::string_view kStructureSuffix = ".structure.tmp";
constexpr std::size_t kHexDigits = 16;
constexpr const char* kMemoryFolder = "/dev/shm";
constexpr std::string_view kImagePrefix = "powerprefill-structure-";

fs::path sibling(const fs::path& path, const std::string& generation, std::string_view suffix) {
  return folder_of(path) / fmt::format(".{}.{}{}", path.filename().string(), generation, suffix);
}

std::uint64_t random_number() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

struct stat status_of(const FileHandle& file) {
  struct stat status {};
  if (::fstat(file.fd(), &status) != 0) {
    throw Error(ErrorCode::storage,
                fmt::format("cannot stat {}: {}", file.path().string(), reason_of_errno(errno)));
  }
  return status;
}

// True if `path` exists and nobody can be shown to use it.
bool is_abandoned(const fs::path& path, FileHandle& keep_locked) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return errno == ENOENT;
  keep_locked = FileHandle::adopt(fd, path);
  return try_lock(keep_locked) == LockResult::held;
}

Error in_use(const fs::path& path) {
  return Error(ErrorCode::cache, fmt::format("{} is in use by another writer; wait for it to end, "
                                             "or choose another output",
                                             path.string()));
}

Error already_there(const fs::path& path) {
  return Error(ErrorCode::usage,
               fmt::format("{} exists; add --force to replace it", path.string()));
}

// A kill leaves one if it comes before HDF5 has opened it.
void remove_stale_images() {
  std::error_code error;
  for (fs::directory_iterator it(kMemoryFolder, error), end; !error && it != end;
       it.increment(error)) {
    if (!it->path().filename().string().starts_with(kImagePrefix)) continue;
    FileHandle lock;
    if (is_abandoned(it->path(), lock)) ::unlink(it->path().c_str());
  }
}

// rename(2) that fails with EEXIST rather than replace `to`.
int rename_to_free_name(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  // File systems without this flag: a link is as exclusive.
  if (::link(from.c_str(), to.c_str()) != 0) return errno;
  ::unlink(from.c_str());
  return 0;
}

}  // namespace

PendingFile::PendingFile(const fs::path& path) : path_(path) {}

// Delegates, so that the destructor cleans up when the body throws.
PendingFile::PendingFile(const fs::path& path, bool force) : PendingFile(path) {
  take_over_existing(force);
  remove_stale(path);
  make_probe();
}

PendingFile::~PendingFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  if (probe_file_) ::unlink(probe_.c_str());
}

void PendingFile::take_over_existing(bool force) {
  std::error_code ignored;
  const fs::file_status status = fs::status(path_, ignored);
  if (fs::is_directory(status) || !path_.has_filename()) {
    throw Error(ErrorCode::usage, fmt::format("{} is a folder; name a file in it", path_.string()));
  }
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    throw Error(ErrorCode::usage,
                fmt::format("{} is not a regular file; choose another output", path_.string()));
  }
  const fs::path folder = folder_of(path_);
  if (!fs::is_directory(folder, ignored)) {
    throw Error(ErrorCode::storage,
                fmt::format("the folder {} of the output {} does not exist; make it first",
                            folder.string(), path_.filename().string()));
  }
  if (!fs::exists(fs::symlink_status(path_, ignored))) return;
  if (!force) throw already_there(path_);
  if (!fs::exists(status)) return;  // a dangling link, which the new file replaces
  replaced_ = FileHandle::open(path_, O_RDWR, ErrorCode::storage);
  if (try_lock(replaced_) == LockResult::busy) throw in_use(path_);
}

void PendingFile::remove_stale(const fs::path& path) {
  const std::string prefix = fmt::format(".{}.", path.filename().string());
  std::map<std::string, std::vector<fs::path>> files;  // by generation
  std::error_code error;
  for (fs::directory_iterator it(folder_of(path), error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with(prefix)) continue;
    const std::string hex = name.substr(prefix.size(), kHexDigits);
    if (hex.size() < kHexDigits || hex.find_first_not_of("0123456789abcdef") != hex.npos) continue;
    const std::string rest = name.substr(prefix.size() + kHexDigits);
    if (rest == kSuffix || rest == kProbeSuffix || rest == kStructureSuffix)
      files[hex].push_back(it->path());
  }
  for (const auto& [hex, paths] : files) {
    FileHandle probe_lock;
    FileHandle temporary_lock;
    if (!is_abandoned(sibling(path, hex, kProbeSuffix), probe_lock) ||
        !is_abandoned(sibling(path, hex, kSuffix), temporary_lock)) {
      continue;
    }
    for (const fs::path& stale : paths) ::unlink(stale.c_str());
  }
}

void PendingFile::make_probe() {
  constexpr int attempts = 10;
  for (int attempt = 0; attempt < attempts; ++attempt) {
    generation_ = random_number();
    const std::string hex = hex_of(generation_);
    probe_ = sibling(path_, hex, kProbeSuffix);
    probe_file_ = FileHandle::open(probe_, O_RDWR | O_CREAT | O_EXCL, ErrorCode::storage);
    const LockResult lock = try_lock(probe_file_);
    if (lock == LockResult::unsupported) {
      warnings_.push_back(
          fmt::format("the file system of {} has no file locks: nothing keeps a "
                      "second job from writing the same output",
                      path_.string()));
    }
    // Someone who removes stale files may have been between our two calls.
    if (lock == LockResult::busy || status_of(probe_file_).st_nlink == 0) continue;
    temporary_ = sibling(path_, hex, kSuffix);
    probe_text_ = hex + " " + hex_of(random_number());
    probe_file_.write_at(std::as_bytes(std::span(probe_text_)), 0);
    probe_file_.sync();
    return;
  }
  throw Error(
      ErrorCode::storage,
      fmt::format("files in the folder of {} vanish as soon as they are made", path_.string()));
}

bool PendingFile::reserve_space(const FileHandle& file, int mode, std::int64_t bytes) const {
  int error = 0;
  do {
    error = ::fallocate(file.fd(), mode, 0, bytes) == 0 ? 0 : errno;
  } while (error == EINTR);
  if (error == EOPNOTSUPP || error == ENOSYS) return false;
  if (error != 0) {
    throw Error(ErrorCode::storage,
                fmt::format("cannot reserve {} bytes for {}: {}; free space there, or choose "
                            "another output",
                            bytes, path_.string(), reason_of_errno(error)));
  }
  return true;
}

void PendingFile::require_space(std::int64_t bytes) {
  if (!reserve_space(probe_file_, FALLOC_FL_KEEP_SIZE, bytes)) return;
  if (::ftruncate(probe_file_.fd(), static_cast<off_t>(probe_text_.size())) != 0) {
    throw Error(ErrorCode::storage,
                fmt::format("cannot shorten {}: {}", probe_.string(), reason_of_errno(errno)));
  }
}

FileHandle PendingFile::structure_image() const {
  constexpr int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
  remove_stale_images();
  const fs::path in_memory =
      fs::path(kMemoryFolder) / fmt::format("{}{}", kImagePrefix, hex_of(generation_));
  constexpr int attempts = 10;
  for (int attempt = 0; attempt < attempts; ++attempt) {
    const int fd = ::open(in_memory.c_str(), flags, 0600);
    if (fd < 0) break;
    FileHandle image = FileHandle::adopt(fd, in_memory);
    // Someone who removes stale images may have been between our two calls.
    if (try_lock(image) != LockResult::busy && status_of(image).st_nlink > 0) return image;
  }
  return FileHandle::open(sibling(path_, hex_of(generation_), kStructureSuffix), flags,
                          ErrorCode::storage);
}

void PendingFile::copy_structure(const FileHandle& image) {
  file_ = FileHandle::open(temporary_, O_RDWR | O_CREAT | O_EXCL, ErrorCode::storage);
  if (try_lock(file_) == LockResult::busy) throw in_use(temporary_);
  const std::int64_t size = image.size(ErrorCode::internal);
  if (::ftruncate(file_.fd(), size) != 0) {
    throw Error(ErrorCode::storage, fmt::format("cannot extend {} to {} bytes: {}", path_.string(),
                                                size, reason_of_errno(errno)));
  }
  std::vector<std::byte> data;
  for (off_t begin = 0;;) {
    begin = ::lseek(image.fd(), begin, SEEK_DATA);
    if (begin < 0) return;  // no data beyond
    const off_t end = ::lseek(image.fd(), begin, SEEK_HOLE);
    data.resize(static_cast<std::size_t>(end - begin));
    image.read_at(data, begin, ErrorCode::internal);
    file_.write_at(data, begin);
    begin = end;
  }
}

void PendingFile::reserve() {
  const std::int64_t size = file_.size(ErrorCode::storage);
  if (!reserve_space(file_, 0, size)) {
    warnings_.push_back(
        fmt::format("the file system of {} cannot reserve space: it may get full "
                    "in mid-run (the file will take {} bytes)",
                    path_.string(), size));
  }
  file_.sync();
  probe_file_ = FileHandle();
  ::unlink(probe_.c_str());
}

void PendingFile::publish() {
  int error = 0;
  if (replaced_) {
    if (!replaced_.is_named(path_)) throw in_use(path_);
    error = ::rename(temporary_.c_str(), path_.c_str()) == 0 ? 0 : errno;
  } else {
    error = rename_to_free_name(temporary_, path_);
    if (error == EEXIST) throw already_there(path_);
  }
  if (error != 0) {
    throw Error(ErrorCode::storage, fmt::format("cannot rename {} to {}: {}", temporary_.string(),
                                                path_.string(), reason_of_errno(error)));
  }
  temporary_.clear();
  try {
    sync_folder(folder_of(path_));
  } catch (...) {
    if (!replaced_) ::unlink(path_.c_str());  // what replaced a file may hold all that it held
    throw;
  }
}

FileHandle PendingFile::descriptor() const {
  const int copy = ::fcntl(file_.fd(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) {
    throw Error(ErrorCode::storage,
                fmt::format("cannot keep {} open: {}", path_.string(), reason_of_errno(errno)));
  }
  return FileHandle::adopt(copy, path_);
}

}  // namespace powerprefill
