// What the other ranks do while rank 0 holds a PendingFile.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <chrono>
#include <functional>
#include <thread>

#include "cache/pending_file.hpp"

namespace powerprefill {

namespace {

// Clients of a network file system may learn of a new file late.
constexpr std::chrono::milliseconds kPatience{2000};
constexpr std::chrono::milliseconds kPause{20};

bool true_in_time(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (true) {
    // A file that cannot be opened, or is short, may be one that has not come yet.
    try {
      if (condition()) return true;
    } catch (const Error& error) {
      if (error.code() == ErrorCode::storage) throw;  // the disk fails: waiting does not help
    }
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(kPause);
  }
}

Error not_shared(const std::filesystem::path& file) {
  return Error(ErrorCode::launch,
               fmt::format("not all ranks see the output folder: {} was made by rank 0 and is "
                           "missing or different here; write to a folder that all nodes share",
                           file.string()));
}

}  // namespace

void require_shared_folder(const std::filesystem::path& probe, const std::string& text) {
  const bool same =
      true_in_time([&] { return read_text_file(probe, ErrorCode::launch, 4096) == text; });
  if (!same) throw not_shared(probe);
}

FileHandle open_shared_file(const std::filesystem::path& temporary, std::uint64_t inode,
                            const std::filesystem::path& path) {
  FileHandle file;
  const bool same = true_in_time([&] {
    const int fd = ::open(temporary.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return false;
    file = FileHandle::adopt(fd, path);
    // Not the device: its number is each host's own.
    struct stat status {};
    return ::fstat(fd, &status) == 0 && status.st_ino == inode;
  });
  if (!same) throw not_shared(temporary);
  return file;
}

}  // namespace powerprefill
