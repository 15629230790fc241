#include "base/read_input.hpp"

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

InputStream::InputStream(FileHandle owned, int fd, std::filesystem::path path, ErrorCode code)
    : owned_(std::move(owned)), fd_(fd), path_(std::move(path)), code_(code) {
  struct stat status {};
  if (::fstat(fd_, &status) != 0) {
    throw Error(code_, fmt::format("cannot stat {}: {}", path_.string(), reason_of_errno(errno)));
  }
  if (S_ISDIR(status.st_mode)) throw Error(code_, path_.string() + ": is a folder, not a file");
  // Files of /proc say 0 and have content.
  if (S_ISREG(status.st_mode) && status.st_size > 0) file_bytes_ = status.st_size;
}

InputStream InputStream::open(const std::filesystem::path& path, ErrorCode code) {
  FileHandle file = FileHandle::open(path, O_RDONLY, code);
  const int fd = file.fd();
  return {std::move(file), fd, path, code};
}

InputStream InputStream::standard_input(ErrorCode code) {
  return {FileHandle(), STDIN_FILENO, "standard input", code};
}

std::size_t InputStream::read_some(std::byte* data, std::size_t bytes) {
  for (;;) {
    const ssize_t count = ::read(fd_, data, bytes);
    if (count >= 0) return static_cast<std::size_t>(count);
    const int error = errno;
    if (error == EINTR) continue;
    if (error == EAGAIN) {  // whoever shares a pipe may have made it non-blocking
      pollfd waiting = {.fd = fd_, .events = POLLIN, .revents = 0};
      ::poll(&waiting, 1, -1);
      continue;
    }
    // A terminal that is gone says EIO, too.
    const ErrorCode code = file_bytes_ ? code_of_errno(error, code_) : code_;
    throw Error(code, fmt::format("cannot read {} beyond byte {}: {}", path_.string(),
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

std::string read_rest(InputStream& input, ErrorCode code, std::int64_t limit) {
  const auto refuse = [&](const std::string& size) {
    throw Error(code, fmt::format("{} has {} bytes, more than the {} accepted",
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

bool is_utf16(std::string_view start) {
  return start.starts_with("\xFF\xFE") || start.starts_with("\xFE\xFF");
}

namespace {

// What a text begins with that says it is no UTF-8 text, as in "is UTF-16 text", or an empty text.
std::string foreign_text(std::string_view start) {
  if (is_utf16(start)) return "is UTF-16 text; save it as UTF-8";
  if (start.starts_with("PK\x03\x04")) {
    return "is a zip archive (such as .npz or .pt); save the array itself, with numpy.save";
  }
  if (start.starts_with("\x1F\x8B") || start.starts_with("\x28\xB5\x2F\xFD") ||
      start.starts_with("BZh") ||
      start.starts_with("\xFD"
                        "7zXZ")) {
    return "is compressed; unpack it first, or through a pipe";
  }
  return "";
}

}  // namespace

void begin_utf8(InputStream& input, ErrorCode code) {
  constexpr std::string_view mark = "\xEF\xBB\xBF";
  const std::string foreign = foreign_text(input.peek(8));
  if (!foreign.empty()) throw Error(code, fmt::format("{}: {}", input.path().string(), foreign));
  if (input.peek(mark.size()).starts_with(mark)) input.skip(mark.size());
}

}  // namespace powerprefill
