#include "cache/export.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/checked.hpp"
#include "base/hash.hpp"

namespace powerprefill {

namespace {

const char* safetensors_name(DType dtype) {
  switch (dtype) {
    case DType::bf16:
      return "BF16";
    case DType::f16:
      return "F16";
    case DType::f32:
      break;
  }
  return "F32";
}

// The tensors in the order of the file, and where their data begins.
class Contents {
 public:
  explicit Contents(const CacheReader& cache) {
    const CacheHeader& h = cache.header();
    const std::int64_t n = cache.tokens();
    json_["__metadata__"] = metadata(cache);
    add("tokens", "I32", {n}, 4 * n);
    add("logits", "F32", {h.vocabulary}, 4 * h.vocabulary);
    add("hidden", "F32", {h.hidden}, 4 * h.hidden);
    const char* type = safetensors_name(h.dtype);
    for (std::int64_t c = 0; c < 2 * h.num_layers; ++c) {
      add(fmt::format("layers.{}.{}", c / 2, c % 2 == 0 ? "key" : "value"), type,
          {n, h.num_kv_heads, h.head_dim}, checked_mul(n, h.row_bytes()));
    }
    if (h.saves_hidden) add("hidden_all", "F32", {n, h.hidden}, checked_mul(n, 4 * h.hidden));
  }

  // The length and the JSON text, padded to 8 bytes.
  std::string header() const {
    std::string text = json_.dump();
    text.resize(static_cast<std::size_t>(round_up(static_cast<std::int64_t>(text.size()), 8)), ' ');
    std::string all;
    for (int byte = 0; byte < 8; ++byte) {
      all += static_cast<char>(text.size() >> (8 * byte) & 0xffU);
    }
    return all + text;
  }

 private:
  static nlohmann::ordered_json metadata(const CacheReader& cache) {
    const CacheHeader& h = cache.header();
    return {{"format", "powerprefill-kv"},
            {"block_tokens", std::to_string(h.block_tokens)},
            {"generation", hex_of(h.generation)},
            {"weights_fingerprint", h.weights_fingerprint},
            {"config_fingerprint", h.config_fingerprint},
            {"tokenizer_fingerprint", h.tokenizer_fingerprint},
            {"schedule", h.schedule},
            {"rope", h.rope},
            {"compute", h.compute},
            {"numerics", h.numerics},
            {"decoded_ranges", nlohmann::json(cache.decoded_ranges()).dump()}};
  }
  void add(const std::string& name, const char* type, const std::vector<std::int64_t>& shape,
           std::int64_t bytes) {
    json_[name] = {{"dtype", type}, {"shape", shape}, {"data_offsets", {end_, end_ + bytes}}};
    end_ += bytes;
  }

  nlohmann::ordered_json json_;
  std::int64_t end_ = 0;
};

template <typename T>
void append(OutputFile& file, const std::vector<T>& values) {
  file.write(std::as_bytes(std::span(values)));
}

}  // namespace

std::int64_t export_safetensors(const CacheReader& cache, OutputFile& file) {
  const CacheHeader& header = cache.header();
  const std::int64_t blocks = ceil_div(cache.tokens(), header.block_tokens);
  file.write(Contents(cache).header());
  append(file, cache.token_ids());
  append(file, cache.logits());
  append(file, cache.hidden());
  std::vector<std::byte> rows;
  for (std::int64_t layer = 0; layer < header.num_layers; ++layer) {
    for (const KvPart part : {KvPart::key, KvPart::value}) {
      for (std::int64_t b = 0; b < blocks; ++b) {
        rows.resize(static_cast<std::size_t>(cache.rows_of(b) * header.row_bytes()));
        cache.read_block(layer, part, b, rows);
        append(file, rows);
      }
    }
  }
  std::vector<float> hidden;
  for (std::int64_t b = 0; header.saves_hidden && b < blocks; ++b) {
    hidden.resize(static_cast<std::size_t>(cache.rows_of(b) * header.hidden));
    cache.read_hidden(b, hidden);
    append(file, hidden);
  }
  file.commit();
  return file.bytes();
}

}  // namespace powerprefill
