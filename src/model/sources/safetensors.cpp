#include "model/sources/safetensors.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "base/shortened.hpp"
#include "json/json.hpp"
#include "json/json_integer.hpp"

namespace powerprefill {

using nlohmann::json;

namespace {

constexpr std::size_t kPrefix = sizeof(std::uint64_t);
constexpr std::uint64_t kLongestHeader = 100'000'000;

// Bytes per element, or 0 for a dtype that is not known here.
std::int64_t element_bytes(std::string_view dtype) {
  constexpr std::array<std::pair<std::string_view, std::int64_t>, 14> sizes = {{
      {"BOOL", 1},
      {"U8", 1},
      {"I8", 1},
      {"F8_E4M3", 1},
      {"F8_E5M2", 1},
      {"U16", 2},
      {"I16", 2},
      {"F16", 2},
      {"BF16", 2},
      {"U32", 4},
      {"I32", 4},
      {"F32", 4},
      {"U64", 8},
      {"I64", 8},
  }};
  const auto found = std::ranges::find(sizes, dtype, &decltype(sizes)::value_type::first);
  if (found != sizes.end()) return found->second;
  return dtype == "F64" ? 8 : 0;
}

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& problem) {
  throw Error(ErrorCode::input,
              fmt::format("{}: {}; the file is damaged or incomplete, fetch it again",
                          path.string(), problem));
}

struct Header {
  json object;
  std::int64_t data_begin = 0;  // into the file
};

Header read_header(const FileHandle& file, std::int64_t size) {
  constexpr std::size_t probe = 64;  // tells a Git LFS pointer
  std::string text(std::min(probe, static_cast<std::size_t>(size)), '\0');
  file.read_at(std::as_writable_bytes(std::span(text)), 0, ErrorCode::input);
  refuse_git_lfs_pointer(file.path(), text, size, ErrorCode::input);
  if (text.size() < kPrefix) {
    fail(file.path(), fmt::format("{} bytes are too few for a safetensors file", size));
  }
  std::uint64_t length = 0;
  std::memcpy(&length, text.data(), kPrefix);
  if (length > static_cast<std::uint64_t>(size) - kPrefix || length > kLongestHeader) {
    fail(file.path(), fmt::format("a header of {} bytes in a file of {} (at most {} are accepted)",
                                  length, size, kLongestHeader));
  }
  text.resize(length);
  file.read_at(std::as_writable_bytes(std::span(text)), kPrefix, ErrorCode::input);
  try {
    json header = parse_json(text);
    if (!header.is_object()) throw std::invalid_argument("is not a JSON object");
    return {std::move(header), static_cast<std::int64_t>(kPrefix + length)};
  } catch (const std::invalid_argument& error) {
    fail(file.path(), fmt::format("the header {}", error.what()));
  }
}

bool is_size(const json& value) {
  return value.is_number_unsigned() && integer_of(value);
}

std::vector<std::int64_t> sizes_of(const json& object, const char* key) {
  const auto list = object.find(key);
  if (list == object.end() || !list->is_array() || !std::ranges::all_of(*list, is_size)) {
    throw std::invalid_argument(fmt::format("`{}` is not a list of sizes", key));
  }
  return list->get<std::vector<std::int64_t>>();
}

// Throws std::invalid_argument without the names of the file and the tensor.
SafetensorsFile::Tensor read_tensor(const json& object, std::int64_t data_begin,
                                    std::int64_t data_bytes) {
  if (!object.is_object()) throw std::invalid_argument("its entry is not an object");
  const auto dtype = object.find("dtype");
  if (dtype == object.end() || !dtype->is_string()) {
    throw std::invalid_argument("`dtype` is not a string");
  }
  SafetensorsFile::Tensor tensor{dtype->get<std::string>(), sizes_of(object, "shape")};
  const std::vector<std::int64_t> offsets = sizes_of(object, "data_offsets");
  if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data_bytes) {
    throw std::invalid_argument(fmt::format("data_offsets {} do not lie in the {} bytes of data",
                                            quoted(object["data_offsets"]), data_bytes));
  }
  const std::int64_t found = offsets[1] - offsets[0];
  std::int64_t expected = element_bytes(tensor.dtype);
  bool overflow = false;
  if (expected != 0) {
    for (const std::int64_t size : tensor.shape) {
      overflow = overflow || __builtin_mul_overflow(expected, size, &expected);
    }
    if (overflow || expected != found) {
      throw std::invalid_argument(fmt::format("{} bytes are not the size of shape {} in {}", found,
                                              quoted(object["shape"]), tensor.dtype));
    }
  }
  tensor.offset = data_begin + offsets[0];
  tensor.bytes = found;
  return tensor;
}

void refuse_overlap(const std::filesystem::path& path,
                    const std::map<std::string, SafetensorsFile::Tensor>& tensors) {
  struct Range {
    std::int64_t begin;
    std::int64_t end;
    const std::string* name;
  };
  std::vector<Range> ranges;
  for (const auto& [name, tensor] : tensors) {
    if (tensor.bytes > 0) ranges.push_back({tensor.offset, tensor.offset + tensor.bytes, &name});
  }
  std::ranges::sort(ranges, {}, &Range::begin);
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i - 1].end > ranges[i].begin) {
      fail(path, fmt::format("the tensors {} and {} overlap", shortened(*ranges[i - 1].name),
                             shortened(*ranges[i].name)));
    }
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  const Header header = read_header(file_.handle(), file_.bytes());
  for (const auto& [name, object] : header.object.items()) {
    if (name == "__metadata__") continue;
    try {
      tensors_.emplace(name,
                       read_tensor(object, header.data_begin, file_.bytes() - header.data_begin));
    } catch (const std::invalid_argument& error) {
      fail(path, fmt::format("tensor {}: {}", shortened(name), error.what()));
    }
  }
  refuse_overlap(path, tensors_);
}

}  // namespace powerprefill
