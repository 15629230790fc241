#include "cache/format/attributes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <type_traits>

#include "base/hash.hpp"
#include "powerprefill/pattern.hpp"

namespace powerprefill {

namespace {

constexpr std::string_view kFormat = "powerprefill-kv";
constexpr std::string_view kChecksum = "xxh3-64";

// The attributes as they are stored.
struct Attributes {
  std::string format{kFormat};
  std::int32_t version_major = kCacheVersionMajor;
  std::string dtype;
  std::string checksum{kChecksum};
  std::int32_t saves_hidden = 0;
  CacheHeader header;
};

// What tells a cache file from any other.
template <typename Self, typename Visitor>
void visit_identity(Self& a, Visitor&& visit) {
  visit("format", a.format);
  visit("version_major", a.version_major);
}

template <typename Self, typename Visitor>
void visit_rest(Self& a, Visitor&& visit) {
  visit("version_minor", a.header.version_minor);
  visit("generation", a.header.generation);
  visit("capacity", a.header.capacity);
  visit("block_tokens", a.header.block_tokens);
  visit("num_layers", a.header.num_layers);
  visit("num_kv_heads", a.header.num_kv_heads);
  visit("head_dim", a.header.head_dim);
  visit("hidden_size", a.header.hidden);
  visit("vocabulary", a.header.vocabulary);
  visit("dtype", a.dtype);
  visit("weights_fingerprint", a.header.weights_fingerprint);
  visit("config_fingerprint", a.header.config_fingerprint);
  visit("tokenizer_fingerprint", a.header.tokenizer_fingerprint);
  visit("schedule", a.header.schedule);
  visit("rope", a.header.rope);
  visit("compute", a.header.compute);
  visit("numerics", a.header.numerics);
  visit("writer", a.header.writer);
  visit("checksum", a.checksum);
  visit("saves_hidden", a.saves_hidden);
}

Attributes attributes_of(const CacheHeader& header) {
  Attributes a;
  a.dtype = name_of(header.dtype);
  a.saves_hidden = header.saves_hidden ? 1 : 0;
  a.header = header;
  return a;
}

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  throw Error(ErrorCode::cache, fmt::format("{} {}", path, why));
}

// Whether a text can be shown and quoted as it is: UTF-8 without control characters.
bool is_plain(const std::string& text) {
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127; };
  if (std::any_of(text.begin(), text.end(), is_control)) return false;
  try {
    static_cast<void>(nlohmann::json(text).dump());
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
  return true;
}

std::string printable(std::string text) {
  for (char& c : text) {
    if (std::isprint(static_cast<unsigned char>(c)) == 0) c = '?';
  }
  return text.substr(0, 40);
}

}  // namespace

std::string problem_of(const CacheHeader& header) {
  struct Bound {
    const char* name;
    std::int64_t value;
    std::int64_t largest;
  };
  const Bound bounds[] = {
      {"block_tokens", header.block_tokens, std::int64_t{1} << 24},
      {"capacity", header.capacity, std::int64_t{1} << 40},
      {"num_layers", header.num_layers, kMostCacheLayers},
      {"num_kv_heads", header.num_kv_heads, std::int64_t{1} << 20},
      {"head_dim", header.head_dim, std::int64_t{1} << 20},
      {"hidden_size", header.hidden, std::int64_t{1} << 28},
      {"vocabulary", header.vocabulary, std::int64_t{1} << 31},
  };
  for (const Bound& bound : bounds) {
    if (bound.value < 1 || bound.value > bound.largest) {
      return fmt::format("{} = {} is not in 1..{}", bound.name, bound.value, bound.largest);
    }
  }
  if (header.capacity % header.block_tokens != 0) {
    return fmt::format("capacity = {} is not a multiple of block_tokens = {}", header.capacity,
                       header.block_tokens);
  }
  const std::int64_t row_elements = header.num_kv_heads * header.head_dim;
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(row_elements * 64, header.capacity, &bytes) ||
      __builtin_mul_overflow(bytes, header.num_layers, &bytes) ||
      __builtin_mul_overflow(header.hidden * 64, header.capacity, &bytes)) {
    return "the sizes in its attributes multiply to more than any file holds";
  }
  return "";
}

void write_attributes(hdf5::File& file, const CacheHeader& header) {
  const Attributes attributes = attributes_of(header);
  const auto write = [&](const char* name, const auto& value) { file.set_attribute(name, value); };
  visit_identity(attributes, write);
  visit_rest(attributes, write);
}

bool claims_to_be_cache(const hdf5::File& file) {
  std::string format;
  try {
    file.get_attribute("format", format);
  } catch (const Error&) {  // none, or of another type or shape
    return false;
  }
  return format == kFormat;
}

CacheHeader read_attributes(const hdf5::File& file, const std::string& path) {
  Attributes a;
  const auto read = [&](const char* name, auto& value) {
    file.get_attribute(name, value);
    if constexpr (std::is_same_v<decltype(value), std::string&>) {
      if (is_plain(value)) return;
      refuse(path, fmt::format("is damaged: its attribute {} holds \"{}\", which is not text", name,
                               printable(value)));
    }
  };
  visit_identity(a, read);
  if (a.format != kFormat) {
    refuse(path, fmt::format("is not a KV cache: its format is \"{}\"", printable(a.format)));
  }
  if (a.version_major > kCacheVersionMajor) {
    refuse(path, fmt::format("was written by a newer version: its format is {}, this program reads "
                             "{}; use a newer powerprefill",
                             a.version_major, kCacheVersionMajor));
  }
  if (a.version_major < 1) {
    refuse(path, fmt::format("has the impossible format version {}", a.version_major));
  }
  visit_rest(a, read);
  const std::optional<DType> dtype = dtype_from_name(a.dtype);
  if (!dtype) refuse(path, fmt::format("has the unknown dtype \"{}\"", printable(a.dtype)));
  if (a.checksum != kChecksum) {
    refuse(path, fmt::format("uses the unknown checksum \"{}\"", printable(a.checksum)));
  }
  if (a.saves_hidden != 0 && a.saves_hidden != 1) {
    refuse(path, fmt::format("is damaged: saves_hidden = {}", a.saves_hidden));
  }
  a.header.dtype = *dtype;
  a.header.saves_hidden = a.saves_hidden == 1;
  const std::string problem = problem_of(a.header);
  if (!problem.empty()) refuse(path, "is damaged: " + problem);
  return a.header;
}

std::uint64_t header_hash(const CacheHeader& header) {
  const Attributes attributes = attributes_of(header);
  std::string text;
  const auto add = [&](const char* name, const auto& value) {
    text += fmt::format("{}={}\n", name, value);
  };
  visit_identity(attributes, add);
  visit_rest(attributes, add);
  return hash_of(text);
}

}  // namespace powerprefill
