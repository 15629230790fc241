// An output that takes its place when it is whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "files/files.hpp"

namespace powerprefill {

// To be called once at the start of a program: /dev/fd/N is refused as an output from then on if N
// was opened later, since it belongs to some library then.
void remember_descriptors();

// A file is written under a temporary name beside the place that it gets by commit(), behind all
// links; until then, and after a failure, what was there before stays. Mode and owner of a file
// that is replaced are kept. A pipe, a terminal, /dev/null, or an open descriptor of this process
// (/dev/stdout, /dev/fd/N) is a stream: it gets what is written at once. Move-only.
class OutputFile {
 public:
  enum class Existing { replace, refuse };

  OutputFile() = default;
  // Opens a stream, which waits for the reader of a named pipe, or finds out whether a file can be
  // written; nothing is left behind. Throws Error: usage for what is neither, or exists and shall
  // be refused; storage.
  explicit OutputFile(const std::filesystem::path& path, Existing existing = Existing::replace);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();

  explicit operator bool() const noexcept { return !path_.empty(); }
  bool is_stream() const noexcept { return static_cast<bool>(stream_); }
  std::int64_t bytes() const noexcept { return end_; }

  // Appends; after an Error(storage) a file ends where it did before.
  void write(std::span<const std::byte> data);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  // Syncs a file and gives it its name. Throws Error(storage), or Error(usage) when one has
  // appeared that shall be refused.
  void commit();
  // Instead: what was written to a file so far stays beside it, under a name that it returns.
  std::filesystem::path keep_aside();

 private:
  void start();
  void write_stream(std::span<const std::byte> data);
  void write_in_place();
  void discard() noexcept;

  std::filesystem::path path_;  // as it was given
  std::filesystem::path target_;
  Existing existing_ = Existing::replace;
  FileHandle replaced_;
  FileHandle stream_;
  std::filesystem::path temporary_;
  FileHandle file_;
  std::int64_t end_ = 0;
};

}  // namespace powerprefill
