#include "cache/reader.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

#include "base/checked.hpp"
#include "cache/format/attributes.hpp"
#include "cache/reader_state.hpp"
#include "hdf5/stored.hpp"

namespace powerprefill {

namespace {

// A reader loses this race only against a writer that commits faster than it can copy.
constexpr int kAttempts = 200;
constexpr std::chrono::milliseconds kPause{5};
// A record that is half written is whole at once; one that is damaged stays so.
constexpr int kAttemptsAtRecord = 20;

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& why) {
  throw Error(ErrorCode::cache, fmt::format("{} {}", path.string(), why));
}

FileHandle open_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    refuse(path, "is not a file, so not a KV cache");
  }
  FileHandle file = FileHandle::open(path, O_RDONLY, ErrorCode::input);
  std::string start(hdf5::kSignature.size(), '\0');
  if (std::cmp_greater_equal(file.size(ErrorCode::cache), start.size())) {
    file.read_at(std::as_writable_bytes(std::span(start)), 0, ErrorCode::cache);
  }
  if (start != hdf5::kSignature) {
    refuse(path, "is not a KV cache: it is no HDF5 file");
  }
  return file;
}

std::int64_t checked_offset(const hdf5::File& file, const hdf5::DatasetSpec& spec,
                            std::int64_t file_bytes, const std::filesystem::path& path) {
  const hdf5::DatasetInfo found = file.dataset(spec.name);
  if (found.offset < 0) {
    refuse(path, fmt::format("is damaged: {} is not contiguous", spec.name));
  }
  if (found.element != spec.element || found.shape != spec.shape) {
    refuse(path, fmt::format("is damaged: {} is {} [{}], its attributes ask for {} [{}]", spec.name,
                             found.element ? name_of(*found.element) : "of a foreign type",
                             fmt::join(found.shape, ", "), name_of(spec.element),
                             fmt::join(spec.shape, ", ")));
  }
  const std::int64_t bytes = spec.bytes();
  if (bytes > file_bytes || found.offset > file_bytes - bytes) {
    refuse(path, fmt::format("is truncated: {} needs {} bytes at offset {}, the file has {}",
                             spec.name, bytes, found.offset, file_bytes));
  }
  return found.offset;
}

}  // namespace

void CacheReader::State::read_structure(const std::filesystem::path& path) {
  file = open_file(path);
  file_bytes = file.size(ErrorCode::cache);
  const hdf5::File structure = hdf5::File::open(path);
  header = read_attributes(structure, path.string());
  std::vector<std::int64_t> offsets;
  for (const hdf5::DatasetSpec& spec : datasets_of(header)) {
    offsets.push_back(checked_offset(structure, spec, file_bytes, path));
  }
  layout = CacheLayout(header, std::move(offsets));
}

std::vector<std::byte> CacheReader::State::read_records() const {
  std::vector<std::byte> rows(kRecordRows * kRecordRowBytes);
  file.read_at(rows, layout.records(), ErrorCode::cache);
  return rows;
}

void CacheReader::State::size_commit() {
  const auto n = static_cast<std::size_t>(record.tokens);
  tokens.resize(n);
  decoded.resize(n);
  logits.resize(static_cast<std::size_t>(header.vocabulary));
  hidden.resize(static_cast<std::size_t>(header.hidden));
  table.emplace(header);
}

std::array<std::span<std::byte>, 6> CacheReader::State::commit_parts() {
  const auto bytes = [](auto& values) { return std::as_writable_bytes(std::span(values)); };
  return {bytes(tokens),
          bytes(decoded),
          bytes(logits),
          bytes(hidden),
          std::as_writable_bytes(table->sums()),
          std::as_writable_bytes(table->hidden_sums())};
}

std::uint64_t CacheReader::State::copy_commit() {
  const auto read = [&](auto& values, std::int64_t offset) {
    file.read_at(std::as_writable_bytes(std::span(values)), offset, ErrorCode::cache);
  };
  size_commit();
  read(tokens, layout.tokens());
  read(decoded, layout.decoded());
  read(logits, layout.logits(record.value_slot));
  read(hidden, layout.hidden(record.value_slot));
  file.read_at(std::as_writable_bytes(table->sums()), layout.checksums(record.checksum_slot),
               ErrorCode::cache);
  if (header.saves_hidden) {
    file.read_at(std::as_writable_bytes(table->hidden_sums()),
                 layout.hidden_checksums(record.checksum_slot), ErrorCode::cache);
  }
  return table->hash({.tokens = tokens, .decoded = decoded, .logits = logits, .hidden = hidden});
}

bool CacheReader::State::read_commit() {
  const std::filesystem::path& path = file.path();
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (attempt > 0) std::this_thread::sleep_for(kPause);
    const std::vector<std::byte> rows = read_records();
    const std::optional<CommitRecord> newest = newest_record(rows, header.generation);
    const std::uint64_t sequence = newest ? newest->sequence : 0;
    if (is_next_damaged(rows, header.generation, sequence)) {
      if (attempt < kAttemptsAtRecord) continue;
      refuse(path, fmt::format("is damaged: the record of its commit {}; run its prefill again",
                               sequence + 1));
    }
    if (!newest) return false;
    record = *newest;
    if (record.header_hash != header_hash(header)) {
      refuse(path, "is damaged: its attributes are not those that were committed");
    }
    if (record.tokens == 0 || std::cmp_greater(record.tokens, header.capacity)) {
      refuse(path, fmt::format("is damaged: its commit claims {} tokens of {}", record.tokens,
                               header.capacity));
    }
    const bool intact = copy_commit() == record.table_hash;
    // While this was copied, a writer may have begun to reuse the slots that it was copied from.
    const std::optional<CommitRecord> after = newest_record(read_records(), header.generation);
    const std::uint64_t moved = after ? after->sequence - record.sequence : 0;
    if (intact && moved < 2) return true;
    if (moved == 0) {
      refuse(path, fmt::format("is damaged: the tokens, logits or checksums of its commit {} ({} "
                               "tokens) differ from what was committed; run its prefill again",
                               record.sequence, record.tokens));
    }
  }
  refuse(path, "changes faster than it can be read; try again when its writer is done");
}

CacheReader CacheReader::open(const std::filesystem::path& path) {
  std::optional<CacheReader> reader = open_if_committed(path);
  if (!reader) refuse(path, "has no commit: its prefill did not finish; run it again");
  return std::move(*reader);
}

std::optional<CacheReader> CacheReader::open_if_committed(const std::filesystem::path& path) {
  auto state = std::make_unique<State>();
  try {
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

void CacheReader::State::read(std::int64_t column, std::int64_t block,
                              std::span<std::byte> data) const {
  const std::string damage = read_checked(column, block, data);
  if (damage.empty()) return;
  refuse(file.path(),
         fmt::format("is damaged: {}; `powerprefill verify` lists all damage", damage));
}

}  // namespace powerprefill
