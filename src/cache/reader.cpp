#include "cache/reader.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/checked.hpp"
#include "cache/reader_state.hpp"

namespace powerprefill {

CacheReader CacheReader::open(const std::filesystem::path& path) {
  std::optional<CacheReader> reader = open_if_committed(path);
  if (!reader) refuse(path, "has no commit: its prefill did not finish; run it again");
  return std::move(*reader);
}

std::optional<CacheReader> CacheReader::open_if_committed(const std::filesystem::path& path) {
  auto state = std::make_unique<State>();
  try {
    // HDF5 opens the path by itself: that it has seen the file that is held is sure only while the
    // name is that file's.
    constexpr int attempts = 5;
    for (int attempt = 0; attempt < attempts; ++attempt) {
      state->read_structure(path);
      if (state->file.is_named(path)) break;
    }
    if (!state->read_commit()) return std::nullopt;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::internal) throw;
    refuse(path, std::string("is damaged: ") + error.what());
  } catch (const std::exception& error) {
    refuse(path, std::string("cannot be read: ") + error.what());
  }
  // Blocks are read here and there: read-ahead would fetch what nobody asks for.
  ::posix_fadvise(state->file.fd(), 0, 0, POSIX_FADV_RANDOM);
  return CacheReader(std::move(state));
}

CacheReader::CacheReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
CacheReader::CacheReader(CacheReader&&) noexcept = default;
CacheReader& CacheReader::operator=(CacheReader&&) noexcept = default;
CacheReader::~CacheReader() = default;

const CacheHeader& CacheReader::header() const {
  return state_->header;
}
std::int64_t CacheReader::tokens() const {
  return static_cast<std::int64_t>(state_->tokens.size());
}
std::uint64_t CacheReader::sequence() const {
  return state_->record.sequence;
}
std::int64_t CacheReader::file_bytes() const {
  return state_->file_bytes;
}
const std::vector<std::int32_t>& CacheReader::token_ids() const {
  return state_->tokens;
}
const std::vector<float>& CacheReader::logits() const {
  return state_->logits;
}
const std::vector<float>& CacheReader::hidden() const {
  return state_->hidden;
}

const CacheLayout& CacheReader::layout() const {
  return state_->layout;
}
const std::vector<std::byte>& CacheReader::decoded() const {
  return state_->decoded;
}
std::vector<std::pair<std::int64_t, std::int64_t>> CacheReader::decoded_ranges() const {
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges;
  for (std::int64_t t = 0; t < tokens(); ++t) {
    if (state_->decoded[static_cast<std::size_t>(t)] == std::byte{0}) continue;
    if (ranges.empty() || ranges.back().second != t) ranges.emplace_back(t, t);
    ++ranges.back().second;
  }
  return ranges;
}

std::int64_t CacheReader::columns() const {
  return state_->table->columns();
}

std::uint64_t CacheReader::checksum(std::int64_t column, std::int64_t block) const {
  return state_->table->sum(column, block);
}

std::int64_t CacheReader::rows_of(std::int64_t block) const {
  const std::int64_t block_tokens = state_->header.block_tokens;
  if (block < 0 || block >= ceil_div(tokens(), block_tokens)) return 0;
  return std::min(block_tokens, tokens() - block * block_tokens);
}

void CacheReader::read_block(std::int64_t layer, KvPart part, std::int64_t block,
                             std::span<std::byte> data) const {
  const CacheHeader& header = state_->header;
  const std::int64_t rows = rows_of(block);
  if (layer < 0 || layer >= header.num_layers || rows == 0 ||
      std::cmp_not_equal(data.size(), rows * header.row_bytes())) {
    throw Error(ErrorCode::internal,
                fmt::format("cannot read layer {} block {} of {} into {} bytes: it has {} layers "
                            "and {} rows in that block",
                            layer, block, state_->file.path().string(), data.size(),
                            header.num_layers, rows));
  }
  state_->read(2 * layer + (part == KvPart::key ? 0 : 1), block, data);
}

void CacheReader::read_hidden(std::int64_t block, std::span<float> data) const {
  const std::int64_t rows = rows_of(block);
  if (!state_->header.saves_hidden || rows == 0 ||
      std::cmp_not_equal(data.size(), rows * state_->header.hidden)) {
    throw Error(ErrorCode::internal,
                fmt::format("cannot read hidden states of block {} of {} into {} numbers", block,
                            state_->file.path().string(), data.size()));
  }
  state_->read(2 * state_->header.num_layers, block, std::as_writable_bytes(data));
}

}  // namespace powerprefill
