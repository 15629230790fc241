#include "cache/pending_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "base/hash.hpp"
#include "files/output_target.hpp"

namespace powerprefill {

namespace fs = std::filesystem;

namespace {

constexpr const char* kMemoryFolder = "/dev/shm";
constexpr std::string_view kImagePrefix = "powerprefill-structure-";

void set_size(const FileHandle& file, std::int64_t bytes) {
  if (::ftruncate(file.fd(), bytes) == 0) return;
  const int error = errno;
  throw Error(ErrorCode::storage,
              fmt::format("cannot make {} {} bytes long: {}{}", file.path().string(), bytes,
                          reason_of_errno(error), hint_of_errno(error)));
}

Error in_use(const fs::path& path) {
  return Error(ErrorCode::cache, fmt::format("{} is in use by another writer; wait for it to end, "
                                             "or choose another output",
                                             path.string()));
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

}  // namespace

PendingFile::PendingFile(fs::path target) : path_(std::move(target)) {}

// Delegates, so that the destructor cleans up when the body throws.
PendingFile::PendingFile(const fs::path& path, bool force) : PendingFile(target_of(path)) {
  require_folder(path_);
  take_over_existing(force);
  remove_stale_temporaries(path_);
  make_probe();
}

PendingFile::~PendingFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  if (probe_file_) ::unlink(probe_.c_str());
}

fs::path PendingFile::target_of(const fs::path& path) {
  const OutputTarget target = OutputTarget::of(path);
  std::error_code ignored;
  if (fs::is_directory(path, ignored) || !path.has_filename()) {
    throw Error(ErrorCode::usage, fmt::format("{} is a folder; name a file in it", path.string()));
  }
  if (target.kind != OutputTarget::Kind::file) {
    throw Error(ErrorCode::usage,
                fmt::format("{} is not a regular file; choose another output", path.string()));
  }
  return target.path;
}

void PendingFile::take_over_existing(bool force) {
  std::error_code ignored;
  if (!fs::exists(path_, ignored)) return;
  if (!force) throw already_there(path_);
  // For writing, although nothing is written: a lock against all others asks for that.
  replaced_ = FileHandle::open(path_, O_RDWR, ErrorCode::storage);
  if (try_lock(replaced_) == LockResult::busy) throw in_use(path_);
}

void PendingFile::make_probe() {
  TemporaryFile probe = TemporaryFile::make(path_, kProbeSuffix, kUsualMode);
  generation_ = probe.number;
  probe_ = std::move(probe.path);
  probe_file_ = std::move(probe.file);
  temporary_ = temporary_name(path_, generation_, kTemporarySuffix);
  if (probe.lock == LockResult::unsupported) {
    warnings_.push_back(
        fmt::format("the file system of {} has no file locks: nothing keeps a "
                    "second job from writing the same output",
                    path_.string()));
  }
  probe_text_ = hex_of(generation_) + " " + hex_of(TemporaryFile::random_number());
  // Synced, since the ranks of other nodes are about to look for it.
  probe_file_.write_at(std::as_bytes(std::span(probe_text_)), 0);
  probe_file_.sync();
}

bool PendingFile::reserve_space(const FileHandle& file, int mode, std::int64_t bytes) const {
  int error = 0;
  do {
    // Not posix_fallocate(3), which writes to every block where the file system cannot reserve.
    error = ::fallocate(file.fd(), mode, 0, bytes) == 0 ? 0 : errno;
  } while (error == EINTR);
  // No failure: there are network file systems on which nothing can be reserved.
  if (error == EOPNOTSUPP || error == ENOSYS) return false;
  if (error != 0) {
    throw Error(ErrorCode::storage,
                fmt::format("cannot reserve {} bytes for {}: {}{}", bytes, path_.string(),
                            reason_of_errno(error),
                            error == EFBIG ? hint_of_errno(error)
                                           : "; free space there, or choose another output"));
  }
  return true;
}

void PendingFile::require_space(std::int64_t bytes) {
  reserve_space(probe_file_, FALLOC_FL_KEEP_SIZE, bytes);
  // There may be room for more than one file may have: beyond its end, fallocate(2) does not look
  // at the limit of file sizes (ulimit -f), on which HDF5 would crash later.
  set_size(probe_file_, bytes);
  set_size(probe_file_, static_cast<std::int64_t>(probe_text_.size()));
}

FileHandle PendingFile::structure_image() const {
  // Shared memory has names, which HDF5 needs. The image is as long as the whole cache, but sparse.
  constexpr int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
  remove_stale_images();
  const fs::path in_memory =
      fs::path(kMemoryFolder) / fmt::format("{}{}", kImagePrefix, hex_of(generation_));
  constexpr int attempts = 10;
  for (int attempt = 0; attempt < attempts; ++attempt) {
    const int fd = ::open(in_memory.c_str(), flags, kPrivateMode);
    if (fd < 0) break;
    FileHandle image = FileHandle::adopt(fd, in_memory);
    // Someone who removes stale images may have been between our two calls.
    if (try_lock(image) != LockResult::busy && image.is_named(in_memory)) return image;
  }
  return FileHandle::open(temporary_name(path_, generation_, kStructureSuffix), flags,
                          ErrorCode::storage, kPrivateMode);
}

void PendingFile::copy_structure(const FileHandle& image) {
  file_ = FileHandle::open(temporary_, O_RDWR | O_CREAT | O_EXCL, ErrorCode::storage,
                           replaced_ ? kPrivateMode : kUsualMode);
  // From here on this lock, and no longer the probe's alone, says that the writer lives.
  if (try_lock(file_) == LockResult::busy) throw in_use(temporary_);
  if (replaced_) take_over_mode(file_, replaced_);
  const std::int64_t size = image.size(ErrorCode::internal);
  set_size(file_, size);
  // Rows were never filled: what HDF5 has written lies between holes.
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
    // A program that knows no locks may have put another file there: that one stays.
    if (!replaced_.is_named(path_)) throw in_use(path_);
    error = ::rename(temporary_.c_str(), path_.c_str()) == 0 ? 0 : errno;
  } else {
    // rename(2) would replace what has come since this file was begun.
    error = rename_to_free_name(temporary_, path_);
    if (error == EEXIST) throw already_there(path_);
  }
  if (error != 0) throw cannot_rename(temporary_, path_, error);
  temporary_.clear();
  try {
    sync_folder(folder_of(path_));
  } catch (...) {
    if (!replaced_) ::unlink(path_.c_str());  // what replaced a file may hold all that it held
    throw;
  }
}

FileHandle PendingFile::descriptor() const {
  // A copy of the descriptor, not another open(2): the lock belongs to what copies share, and holds
  // until the last of them is closed.
  const int copy = ::fcntl(file_.fd(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) {
    throw Error(ErrorCode::storage,
                fmt::format("cannot keep {} open: {}", path_.string(), reason_of_errno(errno)));
  }
  return FileHandle::adopt(copy, path_);
}

}  // namespace powerprefill
