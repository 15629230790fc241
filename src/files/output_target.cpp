#include "files/output_target.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <random>
#include <set>
#include <system_error>
#include <utility>

#include "base/hash.hpp"

namespace powerprefill {

namespace fs = std::filesystem;

namespace {

constexpr int kMostLinks = 40;  // as many as Linux follows
constexpr std::size_t kHexDigits = 16;
// Of the file's name that a temporary one has in it; names end at 255.
constexpr std::size_t kLongestPart = 200;
constexpr std::array kSuffixes = {kProbeSuffix, kTemporarySuffix, kStructureSuffix};

std::string prefix_of(const fs::path& target) {
  return fmt::format(".{}.", target.filename().string().substr(0, kLongestPart));
}

// The N of /proc/self/fd/N, /dev/fd/N; else -1.
int own_descriptor(const fs::path& path) {
  const std::string name = path.filename().string();
  int number = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end != name.data() + name.size() || number < 0) return -1;
  std::error_code unclear;
  const fs::path folder = fs::canonical(folder_of(path), unclear);
  return folder == fmt::format("/proc/{}/fd", ::getpid()) ? number : -1;
}

// False when nothing has this name.
bool look_at(const fs::path& path, struct stat& status, bool follow) {
  const int failed = follow ? ::stat(path.c_str(), &status) : ::lstat(path.c_str(), &status);
  if (failed == 0) return true;
  const int error = errno;
  if (error == ENOENT) return false;
  throw Error(ErrorCode::storage, fmt::format("cannot look at {}: {}; choose another output",
                                              path.string(), reason_of_errno(error)));
}

FileIdentity identity_from(const struct stat& status) {
  return {.device = status.st_dev, .inode = status.st_ino, .name = {}};
}

OutputTarget::Kind kind_of(const struct stat& status) {
  if (S_ISREG(status.st_mode)) return OutputTarget::Kind::file;
  if (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)) return OutputTarget::Kind::stream;
  return OutputTarget::Kind::other;
}

}  // namespace

std::optional<FileIdentity> identity_of(int descriptor) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) return std::nullopt;
  return identity_from(status);
}

std::optional<FileIdentity> identity_of(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) return identity_from(status);
  if (errno != ENOENT || ::stat(folder_of(path).c_str(), &status) != 0) return std::nullopt;
  FileIdentity identity = identity_from(status);
  identity.name = path.filename().string();
  return identity;
}

OutputTarget OutputTarget::of(const fs::path& path) {
  OutputTarget target;
  target.path = path;
  struct stat link {};
  // In a circle of links the look behind all of them fails.
  for (int links = 0;
       links < kMostLinks && look_at(target.path, link, false) && S_ISLNK(link.st_mode); ++links) {
    if (target.descriptor < 0) target.descriptor = own_descriptor(target.path);
    const fs::path next = fs::read_symlink(target.path);
    target.path = next.is_absolute() ? next : folder_of(target.path) / next;
  }
  struct stat status {};
  target.exists = look_at(path, status, true);
  target.identity = target.exists ? identity_from(status) : identity_of(target.path);
  if (!target.exists) return target;
  target.kind = kind_of(status);
  target.is_shared = S_ISCHR(status.st_mode);
  // Behind /proc/N/fd is the file itself, whatever has become of its name.
  if (target.kind == Kind::file && target.descriptor < 0 &&
      identity_of(target.path) != target.identity) {
    throw Error(ErrorCode::usage, fmt::format("{} leads to a file that has no name any more; "
                                              "choose another output",
                                              path.string()));
  }
  return target;
}

fs::path temporary_name(const fs::path& target, std::uint64_t number, std::string_view suffix) {
  return folder_of(target) / fmt::format("{}{}{}", prefix_of(target), hex_of(number), suffix);
}

std::uint64_t TemporaryFile::random_number() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

TemporaryFile TemporaryFile::make(const fs::path& target, std::string_view suffix, unsigned mode) {
  constexpr int attempts = 10;
  for (int attempt = 0; attempt < attempts; ++attempt) {
    const std::uint64_t number = random_number();
    fs::path path = temporary_name(target, number, suffix);
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0) {
      const int error = errno;
      throw Error(ErrorCode::storage,
                  fmt::format("cannot make a file beside {}: {}{}", target.string(),
                              reason_of_errno(error), hint_of_errno(error)));
    }
    FileHandle file = FileHandle::adopt(fd, target);
    const LockResult lock = try_lock(file);
    // Someone who removes stale files may have been between our two calls.
    if (lock == LockResult::busy || !file.is_named(path)) continue;
    return {number, std::move(path), std::move(file), lock};
  }
  throw Error(
      ErrorCode::storage,
      fmt::format("files in the folder of {} vanish as soon as they are made", target.string()));
}

void require_folder(const fs::path& target) {
  std::error_code unclear;
  const fs::path folder = folder_of(target);
  if (!fs::is_directory(folder, unclear)) {
    throw Error(ErrorCode::storage,
                fmt::format("the folder {} of the output {} does not exist; make it first",
                            folder.string(), target.string()));
  }
}

void require_writable_folder(const fs::path& target) {
  require_folder(target);
  const TemporaryFile proof = TemporaryFile::make(target, kTemporarySuffix, kPrivateMode);
  ::unlink(proof.path.c_str());
}

bool is_abandoned(const fs::path& path, FileHandle& keep_locked) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return errno == ENOENT;
  keep_locked = FileHandle::adopt(fd, path);
  return try_lock(keep_locked) == LockResult::held;
}

void remove_stale_temporaries(const fs::path& target) {
  const std::string prefix = prefix_of(target);
  std::set<std::string> numbers;
  std::error_code error;
  for (fs::directory_iterator it(folder_of(target), error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with(prefix)) continue;
    const std::string hex = name.substr(prefix.size(), kHexDigits);
    if (hex.size() < kHexDigits || hex.find_first_not_of("0123456789abcdef") != hex.npos) continue;
    const std::string rest = name.substr(prefix.size() + kHexDigits);
    if (std::ranges::find(kSuffixes, rest) != kSuffixes.end()) numbers.insert(hex);
  }
  for (const std::string& hex : numbers) {
    std::array<FileHandle, kSuffixes.size()> locks;
    bool abandoned = true;
    // One number may be that of several files, of which the probe is locked first.
    for (std::size_t i = 0; i < kSuffixes.size(); ++i) {
      const fs::path path = folder_of(target) / fmt::format("{}{}{}", prefix, hex, kSuffixes[i]);
      abandoned = abandoned && is_abandoned(path, locks[i]);
    }
    for (const FileHandle& stale : locks) {
      if (abandoned && stale) ::unlink(stale.path().c_str());
    }
  }
}

void take_over_mode(const FileHandle& file, const FileHandle& replaced) {
  struct stat old {};
  struct stat fresh {};
  if (::fstat(replaced.fd(), &old) != 0 || ::fstat(file.fd(), &fresh) != 0) return;
  constexpr auto same = static_cast<uid_t>(-1);
  mode_t mode = old.st_mode & 07777;
  if (old.st_gid != fresh.st_gid && ::fchown(file.fd(), same, old.st_gid) != 0) {
    // Another group gets no more than everybody.
    mode &= ~static_cast<mode_t>(02070) | ((mode & 07) << 3);
  }
  if (old.st_uid != fresh.st_uid && ::fchown(file.fd(), old.st_uid, same) != 0) {
    mode &= ~static_cast<mode_t>(04000);
  }
  // Where there are no modes the file system's own stays.
  static_cast<void>(::fchmod(file.fd(), mode));
}

Error already_there(const fs::path& path) {
  return Error(ErrorCode::usage,
               fmt::format("{} exists; add --force to replace it", path.string()));
}

Error cannot_rename(const fs::path& from, const fs::path& to, int error) {
  return Error(ErrorCode::storage, fmt::format("cannot rename {} to {}: {}", from.string(),
                                               to.string(), reason_of_errno(error)));
}

int rename_to_free_name(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  // File systems without this flag: a link is as exclusive.
  if (::link(from.c_str(), to.c_str()) != 0) return errno;
  ::unlink(from.c_str());
  return 0;
}

}  // namespace powerprefill
