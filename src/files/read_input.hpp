// What a user names as input, read from its first byte to its last: a file, a pipe, a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "files/files.hpp"

namespace powerprefill {

// Nothing is asked of the input but read(2): its size is what was read when it ended, and a read
// that fails is an error, never an end. Not thread-safe.
class InputStream {
 public:
  // Throws Error(code): no such file, a folder.
  static InputStream open(const std::filesystem::path& path, ErrorCode code);
  static InputStream standard_input(ErrorCode code);

  // What comes next, without taking it: at least `bytes` of it, or all that is left. The view is
  // good until the next call. Throws Error(code) when it cannot be read.
  std::string_view peek(std::size_t bytes);
  // Takes what peek() has shown.
  void skip(std::size_t bytes);
  // How many bytes were taken.
  std::int64_t position() const noexcept { return position_; }

  // The size of a file on a disk; empty for what has none that can be trusted.
  std::optional<std::int64_t> file_bytes() const noexcept { return file_bytes_; }
  const std::filesystem::path& path() const noexcept { return file_.path(); }
  // Of errors that the input is to blame for.
  ErrorCode code() const noexcept { return code_; }

 private:
  InputStream(FileHandle file, ErrorCode code);
  std::size_t read_some(std::byte* data, std::size_t bytes);

  FileHandle file_;
  ErrorCode code_;
  std::optional<std::int64_t> file_bytes_;
  std::string buffer_;
  std::size_t begin_ = 0;  // of what is left in buffer_
  bool ended_ = false;
  std::int64_t position_ = 0;
};

// All that is left. More than `limit` bytes are an error: before anything is read if the size is
// known. Throws Error(input.code()).
std::string read_rest(InputStream& input, std::int64_t limit);

// Both throw Error(input.code()) for what begins as no UTF-8 text does: with the byte order mark of
// UTF-16; or as archives and compressed files do, too. The latter takes UTF-8's mark off the start.
void refuse_utf16(InputStream& input);
void begin_utf8(InputStream& input);

}  // namespace powerprefill
