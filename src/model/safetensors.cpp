#include "model/safetensors.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>
#include <utility>

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

json parse_header(const std::filesystem::path& path, std::span<const std::byte> file) {
  if (file.size() < kPrefix) {
    fail(path, fmt::format("{} bytes are too few for a safetensors file", file.size()));
  }
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), kPrefix);
  if (length > file.size() - kPrefix || length > kLongestHeader) {
    fail(path, fmt::format("a header of {} bytes in a file of {} (at most {} are accepted)", length,
                           file.size(), kLongestHeader));
  }
  const std::span<const std::byte> text = file.subspan(kPrefix, length);
  const auto* begin = reinterpret_cast<const char*>(text.data());
  const json header = json::parse(begin, begin + text.size(), nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) fail(path, "the header is not a JSON object");
  return header;
}

bool is_size(const json& value) {
  return value.is_number_unsigned() &&
         value.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX);
}

std::vector<std::int64_t> sizes_of(const json& object, const char* key) {
  const auto list = object.find(key);
  if (list == object.end() || !list->is_array() || !std::ranges::all_of(*list, is_size)) {
    throw std::invalid_argument(fmt::format("`{}` is not a list of sizes", key));
  }
  return list->get<std::vector<std::int64_t>>();
}

// Throws std::invalid_argument without the names of the file and the tensor.
SafetensorsFile::Tensor read_tensor(const json& object, std::span<const std::byte> data) {
  if (!object.is_object()) throw std::invalid_argument("its entry is not an object");
  const auto dtype = object.find("dtype");
  if (dtype == object.end() || !dtype->is_string()) {
    throw std::invalid_argument("`dtype` is not a string");
  }
  SafetensorsFile::Tensor tensor{dtype->get<std::string>(), sizes_of(object, "shape"), {}};
  const std::vector<std::int64_t> offsets = sizes_of(object, "data_offsets");
  if (offsets.size() != 2 || offsets[0] > offsets[1] || std::cmp_greater(offsets[1], data.size())) {
    throw std::invalid_argument(fmt::format("data_offsets {} do not lie in the {} bytes of data",
                                            object["data_offsets"].dump(), data.size()));
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
                                              object["shape"].dump(), tensor.dtype));
    }
  }
  tensor.bytes =
      data.subspan(static_cast<std::size_t>(offsets[0]), static_cast<std::size_t>(found));
  return tensor;
}

void refuse_overlap(const std::filesystem::path& path,
                    const std::map<std::string, SafetensorsFile::Tensor>& tensors) {
  std::vector<std::pair<std::span<const std::byte>, const std::string*>> ranges;
  for (const auto& [name, tensor] : tensors) {
    if (!tensor.bytes.empty()) ranges.emplace_back(tensor.bytes, &name);
  }
  std::ranges::sort(ranges, {}, [](const auto& range) { return range.first.data(); });
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    const auto before = ranges[i - 1].first;
    if (before.data() + before.size() > ranges[i].first.data()) {
      fail(path,
           fmt::format("the tensors {} and {} overlap", *ranges[i - 1].second, *ranges[i].second));
    }
  }
}

void advise(std::span<const std::byte> bytes, int advice) noexcept {
  if (bytes.empty()) return;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
  const std::uintptr_t begin = address / page * page;
  ::madvise(reinterpret_cast<void*>(begin), address + bytes.size() - begin, advice);
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : path_(path), file_(path, ErrorCode::input) {
  const json header = parse_header(path, file_.bytes());
  std::uint64_t length = 0;
  std::memcpy(&length, file_.bytes().data(), kPrefix);
  const std::span<const std::byte> data = file_.bytes().subspan(kPrefix + length);
  for (const auto& [name, object] : header.items()) {
    if (name == "__metadata__") continue;
    try {
      tensors_.emplace(name, read_tensor(object, data));
    } catch (const std::invalid_argument& error) {
      fail(path, fmt::format("tensor {}: {}", name, error.what()));
    }
  }
  refuse_overlap(path, tensors_);
}

void will_read(std::span<const std::byte> bytes) noexcept {
  advise(bytes, MADV_WILLNEED);
}
void have_read(std::span<const std::byte> bytes) noexcept {
  advise(bytes, MADV_DONTNEED);
}

}  // namespace powerprefill
