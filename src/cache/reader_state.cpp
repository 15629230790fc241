// Where a cache file's parts are, its newest commit, and its blocks: read, and held against their
// hashes.
#include "cache/reader_state.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

#include "base/hash.hpp"
#include "cache/format/attributes.hpp"
#include "hdf5/file.hpp"

namespace powerprefill {

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& why) {
  throw Error(ErrorCode::cache, fmt::format("{} {}", path.string(), why));
}

namespace {

// A reader loses this race only against a writer that commits faster than it can copy.
constexpr int kAttempts = 200;
constexpr std::chrono::milliseconds kPause{5};
// A record that is half written is whole at once; one that is damaged stays so.
constexpr int kAttemptsAtRecord = 20;

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

std::int64_t CacheReader::State::row_bytes(std::int64_t column) const {
  return column < 2 * header.num_layers ? header.row_bytes() : header.hidden * 4;
}

std::string CacheReader::State::read_checked(std::int64_t column, std::int64_t block,
                                             std::span<std::byte> data) const {
  try {
    file.read_at(data, layout.column_rows(column, block * header.block_tokens), ErrorCode::cache);
    if (hash_of(data) == table->sum(column, block)) return "";
  } catch (const Error& error) {
    // A disk that fails is no damage of the file.
    if (error.code() == ErrorCode::storage) throw;
    return fmt::format("{} block {}: {}", name_of_column(column, header), block, error.what());
  }
  return fmt::format("{} block {}: checksum differs", name_of_column(column, header), block);
}

void CacheReader::State::read(std::int64_t column, std::int64_t block,
                              std::span<std::byte> data) const {
  const std::string damage = read_checked(column, block, data);
  if (damage.empty()) return;
  refuse(file.path(),
         fmt::format("is damaged: {}; `powerprefill verify` lists all damage", damage));
}

}  // namespace powerprefill
