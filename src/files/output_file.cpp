#include "files/output_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <random>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "files/output_target.hpp"

namespace powerprefill {

namespace fs = std::filesystem;

namespace {

// Those of the start; nullopt: they were not asked for.
std::optional<std::set<int>>& descriptors_of_start() {
  static std::optional<std::set<int>> descriptors;
  return descriptors;
}

FileHandle duplicate(int descriptor, const fs::path& path) {
  const auto& known = descriptors_of_start();
  const bool foreign = known && !known->contains(descriptor);
  const int copy = foreign ? -1 : ::fcntl(descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  FileHandle stream = FileHandle::adopt(copy, path);
  if (!stream || (::fcntl(copy, F_GETFL) & O_ACCMODE) == O_RDONLY) {
    throw Error(ErrorCode::storage,
                fmt::format("cannot write to {}: the program was started without such a descriptor "
                            "(mpirun passes on standard output and error alone); name a file",
                            path.string()));
  }
  return stream;
}

}  // namespace

void remember_descriptors() {
  std::set<int> open;
  std::error_code unclear;
  for (fs::directory_iterator it("/proc/self/fd", unclear), end; !unclear && it != end;
       it.increment(unclear)) {
    open.insert(std::atoi(it->path().filename().c_str()));
  }
  // The folder's own descriptor was among them.
  std::erase_if(open, [](int descriptor) { return ::fcntl(descriptor, F_GETFD) < 0; });
  descriptors_of_start() = std::move(open);
}

OutputFile::OutputFile(const fs::path& path, Existing existing) : path_(path), existing_(existing) {
  const OutputTarget target = OutputTarget::of(path);
  if (target.descriptor >= 0) {
    stream_ = duplicate(target.descriptor, path);
    return;
  }
  if (target.kind == OutputTarget::Kind::stream) {
    stream_ = FileHandle::open(path, O_WRONLY | O_NOCTTY, ErrorCode::storage);
    return;
  }
  if (target.kind != OutputTarget::Kind::file || !path.has_filename()) {
    throw Error(ErrorCode::usage,
                fmt::format("{} is a folder or a device; name a file", path.string()));
  }
  target_ = target.path;
  if (target.exists && existing == Existing::refuse) throw already_there(path);
  if (target.exists) replaced_ = FileHandle::open(target_, O_WRONLY, ErrorCode::storage);
  remove_stale_temporaries(target_);
  require_writable_folder(target_);
}

OutputFile::OutputFile(OutputFile&& other) noexcept {
  *this = std::move(other);
}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  if (this == &other) return *this;
  discard();
  path_ = std::exchange(other.path_, {});
  target_ = std::move(other.target_);
  existing_ = other.existing_;
  replaced_ = std::move(other.replaced_);
  stream_ = std::move(other.stream_);
  temporary_ = std::exchange(other.temporary_, {});
  file_ = std::move(other.file_);
  end_ = other.end_;
  return *this;
}

OutputFile::~OutputFile() {
  discard();
}

void OutputFile::discard() noexcept {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

void OutputFile::start() {
  if (file_) return;
  TemporaryFile made =
      TemporaryFile::make(target_, kTemporarySuffix, replaced_ ? kPrivateMode : kUsualMode);
  temporary_ = std::move(made.path);
  file_ = std::move(made.file);
  if (replaced_) take_over_mode(file_, replaced_);
}

void OutputFile::write(std::span<const std::byte> data) {
  if (stream_) {
    write_stream(data);
  } else {
    start();
    try {
      file_.write_at(data, end_);
    } catch (...) {
      if (::ftruncate(file_.fd(), end_) != 0) {  // half of it is not to be kept
        discard();
        end_ = 0;
      }
      throw;
    }
  }
  end_ += static_cast<std::int64_t>(data.size());
}

void OutputFile::write_stream(std::span<const std::byte> data) {
  std::fflush(stdout);  // may be the same stream: what was printed before comes first
  while (!data.empty()) {
    const auto count = ::write(stream_.fd(), data.data(), data.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) {  // whoever opened it did not want to wait; we do
      pollfd ready = {.fd = stream_.fd(), .events = POLLOUT, .revents = 0};
      ::poll(&ready, 1, -1);
      continue;
    }
    if (count <= 0) {
      const int error = count == 0 ? ENOSPC : errno;
      throw Error(ErrorCode::storage, fmt::format("cannot write to {}: {}{}", path_.string(),
                                                  reason_of_errno(error), hint_of_errno(error)));
    }
    data = data.subspan(static_cast<std::size_t>(count));
  }
}

void OutputFile::commit() {
  if (stream_) {
    stream_ = FileHandle();
    return;
  }
  start();
  file_.sync();
  int error = 0;
  if (existing_ == Existing::refuse) {
    error = rename_to_free_name(temporary_, target_);
    if (error == EEXIST) throw already_there(path_);
  } else if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
    error = errno;
  }
  if (error == EBUSY && replaced_) {
    write_in_place();
    return;
  }
  if (error != 0) throw cannot_rename(temporary_, target_, error);
  temporary_.clear();
  sync_folder(folder_of(target_));
}

// A file that is mounted by itself, as into a container, cannot be replaced: it gets the contents.
void OutputFile::write_in_place() {
  std::vector<std::byte> piece(std::size_t{1} << 20);
  for (std::int64_t at = 0; at < end_;) {
    const auto count = std::min<std::int64_t>(std::ssize(piece), end_ - at);
    const auto part = std::span(piece).first(static_cast<std::size_t>(count));
    file_.read_at(part, at, ErrorCode::storage);
    replaced_.write_at(part, at);
    at += count;
  }
  if (::ftruncate(replaced_.fd(), end_) != 0) {
    throw Error(ErrorCode::storage,
                fmt::format("cannot shorten {}: {}", target_.string(), reason_of_errno(errno)));
  }
  replaced_.sync();
  discard();
}

fs::path OutputFile::keep_aside() {
  std::random_device device;
  fs::path name = target_;
  name += fmt::format(".{:08x}.partial", device());
  file_.sync();
  const int error = rename_to_free_name(temporary_, name);
  if (error != 0) throw cannot_rename(temporary_, name, error);
  temporary_.clear();
  return name;
}

}  // namespace powerprefill
