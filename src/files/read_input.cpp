#include "files/read_input.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace powerprefill {

namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;

}  // namespace

InputStream::InputStream(FileHandle file, ErrorCode code) : file_(std::move(file)), code_(code) {
  struct stat status {};
  if (::fstat(file_.fd(), &status) != 0) {
    throw Error(code_, fmt::format("cannot stat {}: {}", path().string(), reason_of_errno(errno)));
  }
  if (S_ISDIR(status.st_mode)) throw Error(code_, path().string() + ": is a folder, not a file");
  // Files of /proc say 0 and have content.
  if (S_ISREG(status.st_mode) && status.st_size > 0) file_bytes_ = status.st_size;
}

InputStream InputStream::open(const std::filesystem::path& path, ErrorCode code) {
  return {FileHandle::open(path, O_RDONLY, code), code};
}

InputStream InputStream::standard_input(ErrorCode code) {
  const int copy = ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  return {FileHandle::adopt(copy, "standard input"), code};
}

std::size_t InputStream::read_some(std::byte* data, std::size_t bytes) {
  for (;;) {
    const ssize_t count = ::read(file_.fd(), data, bytes);
    if (count >= 0) return static_cast<std::size_t>(count);
    const int error = errno;
    if (error == EINTR) continue;
    if (error == EAGAIN) {  // whoever shares a pipe may have made it non-blocking
      pollfd waiting = {.fd = file_.fd(), .events = POLLIN, .revents = 0};
      ::poll(&waiting, 1, -1);
      continue;
    }
    // A terminal that is gone says EIO, too.
    const ErrorCode code = file_bytes_ ? code_of_errno(error, code_) : code_;
    throw Error(code, fmt::format("cannot read {} beyond byte {}: {}", path().string(),
                                  position_ + static_cast<std::int64_t>(buffer_.size() - begin_),
                                  reason_of_errno(error)));
  }
}

std::string_view InputStream::peek(std::size_t bytes) {
  if (!ended_ && buffer_.size() - begin_ < bytes) {
    buffer_.erase(0, begin_);
    begin_ = 0;
    while (!ended_ && buffer_.size() < bytes) {
      const std::size_t filled = buffer_.size();
      buffer_.resize(std::max(bytes, filled + kPiece));
      std::size_t count = 0;
      try {
        count = read_some(reinterpret_cast<std::byte*>(buffer_.data()) + filled,
                          buffer_.size() - filled);
      } catch (...) {
        buffer_.resize(filled);
        throw;
      }
      buffer_.resize(filled + count);
      ended_ = count == 0;
    }
  }
  return std::string_view(buffer_).substr(begin_);
}

void InputStream::skip(std::size_t bytes) {
  const std::size_t taken = std::min(bytes, buffer_.size() - begin_);
  begin_ += taken;
  position_ += static_cast<std::int64_t>(taken);
}

std::string read_rest(InputStream& input, std::int64_t limit) {
  const auto refuse = [&](const std::string& size) {
    throw Error(input.code(), fmt::format("{} has {} bytes, more than the {} accepted",
                                          input.path().string(), size, limit));
  };
  const std::int64_t known = input.file_bytes().value_or(0) - input.position();
  if (known > limit) refuse(std::to_string(known));
  std::string text;
  if (known > 0) text.reserve(static_cast<std::size_t>(known));
  for (;;) {
    const std::string_view next = input.peek(1);
    if (next.empty()) return text;
    if (std::cmp_greater(next.size(), limit - static_cast<std::int64_t>(text.size()))) {
      refuse(fmt::format("at least {}", text.size() + next.size()));
    }
    text += next;
    input.skip(next.size());
  }
}

namespace {

[[noreturn]] void refuse(const InputStream& input, const char* what) {
  throw Error(input.code(), fmt::format("{}: {}", input.path().string(), what));
}

}  // namespace

void refuse_utf16(InputStream& input) {
  const std::string_view start = input.peek(2);
  if (start.starts_with("\xFF\xFE") || start.starts_with("\xFE\xFF")) {
    refuse(input, "is UTF-16 text; save it as UTF-8");
  }
}

void begin_utf8(InputStream& input) {
  refuse_utf16(input);
  const std::string_view start = input.peek(8);
  if (start.starts_with("PK\x03\x04")) {
    refuse(input, "is a zip archive (such as .npz or .pt); save the array itself, with numpy.save");
  }
  if (start.starts_with("\x1F\x8B") || start.starts_with("\x28\xB5\x2F\xFD") ||
      start.starts_with("BZh") ||
      start.starts_with("\xFD"
                        "7zXZ")) {
    refuse(input, "is compressed; unpack it first, or through a pipe");
  }
  constexpr std::string_view mark = "\xEF\xBB\xBF";
  if (start.starts_with(mark)) input.skip(mark.size());
}

}  // namespace powerprefill
