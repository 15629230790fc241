#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/shortened.hpp"
#include "cache/export.hpp"
#include "cache/reader.hpp"
#include "files/output_file.hpp"
#include "math/rows/convert.hpp"
#include "mpi/session.hpp"
#include "powerprefill/cache.hpp"

namespace powerprefill {

struct Cache::State {
  CacheReader reader;
  CacheInfo info;
};

namespace {

ComputeType compute_type_of(const std::string& name) {
  for (const ComputeType type : {ComputeType::f32, ComputeType::bf16}) {
    if (name_of(type) == name) return type;
  }
  throw Error(ErrorCode::cache,
              fmt::format("the file was computed in '{}', which this version does not know",
                          shortened(name)));
}

CacheInfo info_of(const CacheReader& reader) {
  const CacheHeader& header = reader.header();
  return {.tokens = reader.tokens(),
          .capacity = header.capacity,
          .commits = reader.sequence(),
          .block_tokens = header.block_tokens,
          .num_layers = header.num_layers,
          .num_kv_heads = header.num_kv_heads,
          .head_dim = header.head_dim,
          .hidden = header.hidden,
          .vocabulary = header.vocabulary,
          .kv_type = kv_type_of(header.dtype),
          .compute = compute_type_of(header.compute),
          .file_bytes = reader.file_bytes(),
          .saves_hidden = header.saves_hidden,
          .schedule = header.schedule,
          .weights_fingerprint = header.weights_fingerprint,
          .numerics = header.numerics,
          .decoded_ranges = reader.decoded_ranges()};
}

}  // namespace

Cache::Cache(const std::filesystem::path& path) : state_(new State{CacheReader::open(path), {}}) {
  state_->info = info_of(state_->reader);
}
Cache::Cache(Session& session, const std::filesystem::path& path)
    : state_(new State{CacheReader::open_shared(session.mpi().world(), path), {}}) {
  state_->info = info_of(state_->reader);
}
Cache::~Cache() = default;
Cache::Cache(Cache&&) noexcept = default;
Cache& Cache::operator=(Cache&&) noexcept = default;

const CacheInfo& Cache::info() const {
  return state_->info;
}
std::span<const std::int32_t> Cache::token_ids() const {
  return state_->reader.token_ids();
}
std::span<const float> Cache::logits() const {
  return state_->reader.logits();
}
std::span<const float> Cache::hidden() const {
  return state_->reader.hidden();
}

void Cache::read(std::int64_t layer, Rows part, std::int64_t first, std::span<float> rows) const {
  const CacheHeader& header = state_->reader.header();
  const std::int64_t width = header.num_kv_heads * header.head_dim;
  const std::int64_t count = std::ssize(rows) / width;
  if (layer < 0 || layer >= header.num_layers || first < 0 || first > state_->reader.tokens() ||
      count > state_->reader.tokens() - first || std::ssize(rows) % width != 0) {
    throw Error(
        ErrorCode::usage,
        fmt::format("{} values from row {} on of layer {}; the cache has {} layers of {} "
                    "rows of {} values",
                    rows.size(), first, layer, header.num_layers, state_->reader.tokens(), width));
  }
  const std::int64_t end = first + count;
  const std::int64_t block_tokens = header.block_tokens;
  std::vector<std::byte> data;
  for (std::int64_t at = first; at < end;) {
    const std::int64_t block = at / block_tokens;
    const std::int64_t begin = block * block_tokens;
    const std::int64_t stop = std::min(end, begin + block_tokens);
    data.resize(static_cast<std::size_t>(state_->reader.rows_of(block) * header.row_bytes()));
    state_->reader.read_block(layer, part == Rows::key ? KvPart::key : KvPart::value, block, data);
    widen(header.dtype, data.data() + (at - begin) * header.row_bytes(),
          rows.subspan(static_cast<std::size_t>((at - first) * width),
                       static_cast<std::size_t>((stop - at) * width)));
    at = stop;
  }
}

Cache::Verification Cache::verify() const {
  return state_->reader.verify();
}
Cache::Verification Cache::verify(Session& session) const {
  return state_->reader.verify(session.mpi().world());
}

std::int64_t Cache::export_safetensors(const std::filesystem::path& path, bool replace) const {
  OutputFile file(path, replace ? OutputFile::Existing::replace : OutputFile::Existing::refuse);
  return powerprefill::export_safetensors(state_->reader, file);
}

}  // namespace powerprefill
