#include "cli/options/token_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "base/shortened.hpp"
#include "cache/format/attributes.hpp"
#include "cache/reader.hpp"
#include "files/read_input.hpp"
#include "hdf5/file.hpp"
#include "json/json.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill::cli {

namespace {

constexpr std::int64_t kMostIds = std::int64_t{1} << 30;
constexpr std::size_t kLongestNpyHeader = 65536;
constexpr std::size_t kLongestWord = 64;
constexpr std::size_t kPiece = std::size_t{1} << 20;

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& reason) {
  throw Error(ErrorCode::input, fmt::format("{}: {}", path.string(), reason));
}

void check_count(const std::filesystem::path& path, std::int64_t count) {
  if (count <= kMostIds) return;
  refuse(path, fmt::format("has {} token ids, more than the {} accepted", count, kMostIds));
}

std::int32_t checked_id(const std::filesystem::path& path, std::int64_t id) {
  if (!std::in_range<std::int32_t>(id)) {
    refuse(path, fmt::format("token id {} is out of range", id));
  }
  return static_cast<std::int32_t>(id);
}

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

std::vector<std::int32_t> parse_text(InputStream& input) {
  const std::filesystem::path& path = input.path();
  begin_utf8(input);
  std::vector<std::int32_t> tokens;
  for (;;) {
    const std::string_view next = input.peek(kLongestWord);
    const char* begin = std::find_if_not(next.begin(), next.end(), is_space);
    if (begin != next.begin()) {
      input.skip(static_cast<std::size_t>(begin - next.begin()));
      continue;
    }
    if (next.empty()) return tokens;
    const std::string_view word(begin, std::find_if(begin, next.end(), is_space));
    std::int64_t id = 0;
    const auto [stop, error] = std::from_chars(word.begin(), word.end(), id);
    if (error == std::errc::result_out_of_range && stop == word.end()) {
      refuse(path, fmt::format("token id {} is out of range", shortened(word)));
    }
    if (error != std::errc() || stop != word.end()) {
      refuse(path, fmt::format("byte {} is not part of a decimal token id: {}", input.position(),
                               quoted(nlohmann::json(std::string(word)))));
    }
    // What fills the window may go on behind it, and would become two ids.
    if (word.size() >= kLongestWord) {
      refuse(path, fmt::format("a token id of {} or more digits at byte {}: {}", kLongestWord,
                               input.position(), shortened(word)));
    }
    check_count(path, static_cast<std::int64_t>(tokens.size()) + 1);
    tokens.push_back(checked_id(path, id));
    input.skip(word.size());
  }
}

// Appends little-endian integers of `bytes_each` (4 or 8) bytes.
void append_integers(const std::filesystem::path& path, std::string_view data,
                     std::size_t bytes_each, std::vector<std::int32_t>& tokens) {
  for (std::size_t at = 0; at < data.size(); at += bytes_each) {
    std::int32_t narrow = 0;
    std::int64_t wide = 0;
    std::memcpy(bytes_each == 4 ? static_cast<void*>(&narrow) : &wide, data.data() + at,
                bytes_each);
    tokens.push_back(bytes_each == 4 ? narrow : checked_id(path, wide));
  }
}

// What follows `'key':` in the Python dictionary of an .npy header.
std::string_view npy_value(std::string_view header, std::string_view key) {
  for (const char* quote : {"'", "\""}) {
    const std::string word = fmt::format("{}{}{}", quote, key, quote);
    std::size_t at = header.find(word);
    if (at == std::string_view::npos) continue;
    at = header.find_first_not_of(' ', at + word.size());
    if (at == std::string_view::npos || header[at] != ':') return {};
    at = header.find_first_not_of(' ', at + 1);
    return at == std::string_view::npos ? std::string_view() : header.substr(at);
  }
  return {};
}

// The length of an array of one dimension, "(20,)"; -1: it has another shape.
std::int64_t npy_length(std::string_view shape) {
  if (!shape.starts_with('(')) return -1;
  std::int64_t count = -1;
  const auto [stop, error] = std::from_chars(shape.begin() + 1, shape.end(), count);
  if (error != std::errc() || count < 0) return -1;
  std::string_view rest(stop, shape.end());
  for (const char expected : {',', ')'}) {
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    if (!rest.starts_with(expected)) return -1;
    rest.remove_prefix(1);
  }
  return count;
}

// Format: numpy.lib.format, versions 1 to 3.
std::vector<std::int32_t> parse_npy(InputStream& input) {
  const std::filesystem::path& path = input.path();
  const std::string_view fixed = input.peek(12);
  if (fixed.size() < 12) refuse(path, "the .npy header is cut short");
  const bool long_header = fixed[6] > 1;
  std::uint32_t length = 0;
  std::memcpy(&length, fixed.data() + 8, long_header ? 4 : 2);
  const std::size_t start = long_header ? 12 : 10;
  if (length > kLongestNpyHeader) {
    refuse(path, fmt::format("the .npy header has {} bytes, more than the {} accepted", length,
                             kLongestNpyHeader));
  }
  const std::string_view whole = input.peek(start + length);
  if (whole.size() < start + length) refuse(path, "the .npy header is longer than the file");
  const std::string header(whole.substr(start, length));
  input.skip(start + length);

  const std::string_view type = npy_value(header, "descr").substr(0, 5);
  const bool narrow = type == "'<i4'" || type == "\"<i4\"";
  if (!narrow && type != "'<i8'" && type != "\"<i8\"") {
    refuse(path, "the .npy array is not of int32 or int64 (little-endian)");
  }
  const std::int64_t count = npy_length(npy_value(header, "shape"));
  if (count < 0) refuse(path, "the .npy array does not have one dimension");
  check_count(path, count);
  const std::size_t bytes_each = narrow ? 4 : 8;
  auto left = static_cast<std::size_t>(count) * bytes_each;
  const auto is_short = [&](std::int64_t bytes) { return std::cmp_less(bytes, left); };
  if (input.file_bytes() && is_short(*input.file_bytes() - input.position())) {
    refuse(path, "the .npy file is shorter than its shape says");
  }
  std::vector<std::int32_t> tokens;
  while (left > 0) {
    const std::size_t piece = std::min(left, kPiece);
    const std::string_view data = input.peek(piece);
    if (data.size() < piece) refuse(path, "the .npy file is shorter than its shape says");
    append_integers(path, data.substr(0, piece), bytes_each, tokens);
    input.skip(piece);
    left -= piece;
  }
  return tokens;
}

std::vector<std::int32_t> read_dataset(const std::filesystem::path& path,
                                       const hdf5::DatasetInfo& info) {
  const bool wide = info.element == hdf5::Element::i64;
  if ((!wide && info.element != hdf5::Element::i32) || info.shape.size() != 1 ||
      info.shape[0] < 0 || info.offset < 0) {
    refuse(path, "its dataset `tokens` is not a contiguous row of int32 or int64");
  }
  check_count(path, info.shape[0]);
  const std::size_t bytes_each = wide ? 8 : 4;
  std::int64_t left = info.shape[0] * static_cast<std::int64_t>(bytes_each);
  std::int64_t offset = info.offset;
  const FileHandle file = FileHandle::open(path, O_RDONLY, ErrorCode::input);
  const std::int64_t bytes = file.size(ErrorCode::input);
  if (left > bytes || offset > bytes - left) refuse(path, "the file is cut short");
  std::vector<std::int32_t> tokens;
  tokens.reserve(static_cast<std::size_t>(info.shape[0]));
  std::string data;
  while (left > 0) {
    data.resize(static_cast<std::size_t>(std::min<std::int64_t>(left, kPiece)));
    file.read_at(std::as_writable_bytes(std::span(data)), offset, ErrorCode::input);
    append_integers(path, data, bytes_each, tokens);
    offset += static_cast<std::int64_t>(data.size());
    left -= static_cast<std::int64_t>(data.size());
  }
  return tokens;
}

std::vector<std::int32_t> read_hdf5(const std::filesystem::path& path) {
  const auto info = [&]() -> std::optional<hdf5::DatasetInfo> {
    try {
      const hdf5::File file = hdf5::File::open(path);
      if (claims_to_be_cache(file)) return std::nullopt;
      return file.dataset("tokens");
    } catch (const Error& error) {
      throw Error(ErrorCode::input, error.what());
    }
  }();
  if (info) return read_dataset(path, *info);
  // Of a cache only what is committed counts; the rest of its dataset is room for more.
  return CacheReader::open(path).token_ids();
}

}  // namespace

std::vector<std::int32_t> read_token_file(const std::filesystem::path& path) {
  InputStream input = InputStream::open(path, ErrorCode::input);
  const std::string_view start = input.peek(8);
  if (start.starts_with(hdf5::kSignature)) {
    if (input.file_bytes()) return read_hdf5(path);
    refuse(path, "is an HDF5 file that comes through a pipe, but is read here and there; save it");
  }
  return start.starts_with("\x93NUMPY") ? parse_npy(input) : parse_text(input);
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
