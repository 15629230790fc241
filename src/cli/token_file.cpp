#include "cli/token_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>

#include "base/checked.hpp"
#include "base/files.hpp"
#include "hdf5/file.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill::cli {

namespace {

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& reason) {
  throw Error(ErrorCode::input, fmt::format("{}: {}", path.string(), reason));
}

std::int32_t checked_id(const std::filesystem::path& path, std::int64_t id) {
  if (!std::in_range<std::int32_t>(id))
    refuse(path, fmt::format("token id {} is out of range", id));
  return static_cast<std::int32_t>(id);
}

std::vector<std::int32_t> parse_text(const std::filesystem::path& path, const std::string& text) {
  std::vector<std::int32_t> tokens;
  const char* next = text.data();
  const char* end = next + text.size();
  for (;;) {
    while (next != end && (*next == ' ' || (*next >= '\t' && *next <= '\r'))) ++next;
    if (next == end) return tokens;
    std::int64_t id = 0;
    const auto [stop, error] = std::from_chars(next, end, id);
    const bool separated = stop == end || *stop == ' ' || (*stop >= '\t' && *stop <= '\r');
    if (error != std::errc() || !separated) {
      refuse(path, fmt::format("byte {} is not part of a decimal token id", next - text.data()));
    }
    tokens.push_back(checked_id(path, id));
    next = stop;
  }
}

// `count` little-endian integers of `bytes_each` (4 or 8) bytes.
std::vector<std::int32_t> from_integers(const std::filesystem::path& path, const char* data,
                                        std::size_t count, std::size_t bytes_each) {
  std::vector<std::int32_t> tokens(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (bytes_each == 4) {
      std::memcpy(&tokens[i], data + 4 * i, 4);
    } else {
      std::int64_t id = 0;
      std::memcpy(&id, data + 8 * i, 8);
      tokens[i] = checked_id(path, id);
    }
  }
  return tokens;
}

// Format: numpy.lib.format, versions 1 to 3.
std::vector<std::int32_t> parse_npy(const std::filesystem::path& path, const std::string& file) {
  if (file.size() < 12) refuse(path, "the .npy header is cut short");
  const bool long_header = file[6] > 1;
  std::uint32_t length = 0;
  std::memcpy(&length, file.data() + 8, long_header ? 4 : 2);
  const std::size_t start = long_header ? 12 : 10;
  if (length > file.size() - start) refuse(path, "the .npy header is longer than the file");
  const std::string header = file.substr(start, length);
  static const std::regex type(R"('descr':\s*'<i([48])')");
  static const std::regex shape(R"('shape':\s*\((\d{1,15}),\s*\))");
  std::smatch found_type;
  std::smatch found_shape;
  if (!std::regex_search(header, found_type, type)) {
    refuse(path, "the .npy array is not of int32 or int64");
  }
  if (!std::regex_search(header, found_shape, shape)) {
    refuse(path, "the .npy array does not have one dimension");
  }
  const std::size_t bytes_each = found_type[1] == "4" ? 4 : 8;
  const auto count = static_cast<std::size_t>(std::stoll(found_shape[1]));
  if ((file.size() - start - length) / bytes_each < count) {
    refuse(path, "the .npy file is shorter than its shape says");
  }
  return from_integers(path, file.data() + start + length, count, bytes_each);
}

std::vector<std::int32_t> read_hdf5(const std::filesystem::path& path) {
  try {
    const hdf5::DatasetInfo info = hdf5::File::open(path).dataset("tokens");
    const bool wide = info.element == hdf5::Element::i64;
    if ((!wide && info.element != hdf5::Element::i32) || info.shape.size() != 1 ||
        info.offset < 0) {
      refuse(path, "its dataset `tokens` is not a contiguous row of int32 or int64");
    }
    const std::size_t bytes_each = wide ? 8 : 4;
    const FileHandle file = FileHandle::open(path, O_RDONLY, ErrorCode::input);
    if (info.shape[0] > file.size(ErrorCode::input)) refuse(path, "the file is cut short");
    std::string data(static_cast<std::size_t>(info.shape[0]) * bytes_each, '\0');
    file.read_at(std::as_writable_bytes(std::span(data)), info.offset, ErrorCode::input);
    return from_integers(path, data.data(), data.size() / bytes_each, bytes_each);
  } catch (const Error& error) {
    throw Error(ErrorCode::input, error.what());
  }
}

}  // namespace

std::vector<std::int32_t> read_token_file(const std::filesystem::path& path) {
  std::error_code unclear;
  if (std::filesystem::is_directory(path, unclear)) refuse(path, "is a folder");
  if (std::filesystem::exists(path, unclear) && !std::filesystem::is_regular_file(path, unclear)) {
    std::ifstream pipe(path, std::ios::binary);  // standard input, for one
    const std::string text{std::istreambuf_iterator<char>(pipe), std::istreambuf_iterator<char>()};
    if (pipe.bad() || !pipe.is_open()) refuse(path, "cannot be read");
    return parse_text(path, text);
  }
  const FileHandle probe = FileHandle::open(path, O_RDONLY, ErrorCode::input);
  const std::int64_t size = probe.size(ErrorCode::input);
  std::string magic(static_cast<std::size_t>(std::min<std::int64_t>(size, 8)), '\0');
  probe.read_at(std::as_writable_bytes(std::span(magic)), 0, ErrorCode::input);
  if (magic == "\x89HDF\r\n\x1a\n") return read_hdf5(path);
  const std::string file = read_text_file(path, ErrorCode::input, std::int64_t{1} << 34);
  return magic.starts_with("\x93NUMPY") ? parse_npy(path, file) : parse_text(path, file);
}

std::vector<std::int32_t> share_ids(const mpi::Communicator& world,
                                    const std::function<std::vector<std::int32_t>()>& make) {
  std::vector<std::int32_t> tokens;
  world.agree([&] {
    if (world.is_root()) tokens = make();
  });
  std::uint64_t count = tokens.size();
  world.broadcast_value(count, 0);
  tokens.resize(count);
  world.broadcast(std::as_writable_bytes(std::span(tokens)), 0);
  return tokens;
}

}  // namespace powerprefill::cli
