#include "cache/writer.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/checked.hpp"
#include "cache/format/attributes.hpp"
#include "cache/format/commit_record.hpp"
#include "cache/writer_state.hpp"

namespace powerprefill {

namespace {

void sync_data(const FileHandle& file) {
  if (::fdatasync(file.fd()) != 0) {
    throw Error(ErrorCode::storage, fmt::format("cannot sync the commit record of {}: {}",
                                                file.path().string(), reason_of_errno(errno)));
  }
}

}  // namespace

CacheWriter::CacheWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
CacheWriter::CacheWriter(CacheWriter&&) noexcept = default;
CacheWriter& CacheWriter::operator=(CacheWriter&&) noexcept = default;
CacheWriter::~CacheWriter() = default;

const CacheHeader& CacheWriter::header() const {
  return state_->header;
}
std::int64_t CacheWriter::committed() const {
  return state_->committed;
}
const std::vector<std::string>& CacheWriter::warnings() const {
  return state_->warnings;
}
void CacheWriter::set_trace(Trace& trace) {
  state_->rows->set_trace(trace);
}
std::int64_t CacheWriter::bytes_written() const {
  return state_->rows->bytes_written();
}
double CacheWriter::write_seconds() const {
  return state_->rows->seconds();
}
void CacheWriter::wait_for(std::int64_t ticket) {
  state_->rows->wait_for(ticket);
}
void CacheWriter::discard() {
  state_->rows->finish();
}

namespace {

// Throws unless rows of `bytes` bytes in all may be written from `first_token` on.
void require_fit(const CacheHeader& header, std::int64_t first_token, std::size_t bytes,
                 std::int64_t row_bytes, const std::filesystem::path& path) {
  const auto total = checked_cast<std::int64_t>(bytes);
  if (total % row_bytes != 0 || first_token < 0 || first_token % header.block_tokens != 0) {
    throw Error(ErrorCode::internal,
                fmt::format("rows for {} are misplaced: {} bytes at token {}, row of {} bytes, "
                            "block of {} tokens",
                            path.string(), total, first_token, row_bytes, header.block_tokens));
  }
  if (first_token > header.capacity || total / row_bytes > header.capacity - first_token) {
    throw Error(ErrorCode::storage,
                fmt::format("{} has room for {} tokens, not for {} more after {}; make it with a "
                            "larger --reserve",
                            path.string(), header.capacity, total / row_bytes, first_token));
  }
}

}  // namespace

std::int64_t CacheWriter::write_layer(std::int64_t layer, std::int64_t first_token,
                                      std::span<const std::byte> key,
                                      std::span<const std::byte> value) {
  const CacheHeader& header = state_->header;
  if (layer < 0 || layer >= header.num_layers || key.size() != value.size()) {
    throw Error(ErrorCode::internal,
                fmt::format("cannot write layer {} of {} with {} bytes of keys and {} of values",
                            layer, header.num_layers, key.size(), value.size()));
  }
  const std::int64_t row_bytes = header.row_bytes();
  require_fit(header, first_token, key.size(), row_bytes, state_->file.path());
  std::array<RowJob, 2> jobs;
  for (int part = 0; part < 2; ++part) {
    jobs[static_cast<std::size_t>(part)] = {.data = part == 0 ? key : value,
                                            .offset = state_->layout.rows(layer, part, first_token),
                                            .row_bytes = row_bytes,
                                            .block_bytes = row_bytes * header.block_tokens,
                                            .column = 2 * layer + part,
                                            .first_block = first_token / header.block_tokens};
  }
  return state_->rows->push(jobs);
}

std::int64_t CacheWriter::write_hidden(std::int64_t first_token, std::span<const float> rows) {
  const CacheHeader& header = state_->header;
  if (!header.saves_hidden) {
    throw Error(ErrorCode::internal, "this cache file has no room for hidden states");
  }
  const std::int64_t row_bytes = header.hidden * 4;
  const RowJob job = {.data = std::as_bytes(rows),
                      .offset = state_->layout.hidden_rows(first_token),
                      .row_bytes = row_bytes,
                      .block_bytes = row_bytes * header.block_tokens,
                      .column = 2 * header.num_layers,
                      .first_block = first_token / header.block_tokens};
  require_fit(header, first_token, job.data.size(), row_bytes, state_->file.path());
  return state_->rows->push(std::span(&job, 1));
}

void CacheWriter::State::write_values(const CommittedValues& values, int slot) {
  file.write_at(std::as_bytes(std::as_const(*table).sums()), layout.checksums(slot));
  if (header.saves_hidden) {
    file.write_at(std::as_bytes(std::as_const(*table).hidden_sums()),
                  layout.hidden_checksums(slot));
  }
  const auto old = static_cast<std::size_t>(committed);
  file.write_at(std::as_bytes(values.tokens.subspan(old)), layout.tokens(committed));
  file.write_at(values.decoded.subspan(old), layout.decoded(committed));
  file.write_at(std::as_bytes(values.logits), layout.logits(slot));
  file.write_at(std::as_bytes(values.hidden), layout.hidden(slot));
}

void CacheWriter::State::write_record(const CommittedValues& values, int slot) {
  const auto record = encode({.generation = header.generation,
                              .sequence = sequence,
                              .tokens = values.tokens.size(),
                              .value_slot = slot,
                              .checksum_slot = slot,
                              .table_hash = table->hash(values),
                              .header_hash = header_hash(header)});
  const auto row = static_cast<std::int64_t>(sequence % kRecordRows);
  const std::int64_t offset = layout.records() + row * kRecordRowBytes;
  try {
    file.write_at(record, offset);
    sync_data(file);
  } catch (...) {
    // It may be in the file nevertheless: take it back, as far as the disk lets us.
    const std::array<std::byte, kRecordBytes> nothing{};
    if (::pwrite(file.fd(), nothing.data(), nothing.size(), offset) > 0) ::fdatasync(file.fd());
    throw;
  }
}

// Rows for a file without a name would be lost with the descriptor.
void CacheWriter::State::require_named() const {
  if (file.is_named(file.path())) return;
  throw Error(ErrorCode::storage,
              fmt::format("{} was deleted or replaced while it was being written; run the command "
                          "again",
                          file.path().string()));
}

void CacheWriter::State::commit(std::int64_t token_count, CommittedValues values,
                                RowOrigin origin) {
  std::string runs;
  std::vector<std::byte> marks;
  comm.agree([&] {
    runs = to_bytes(rows->finish());
    const bool fits = token_count > 0 && token_count >= committed && token_count <= header.capacity;
    if (!fits || (comm.is_root() && (std::cmp_not_equal(values.tokens.size(), token_count) ||
                                     std::cmp_not_equal(values.logits.size(), header.vocabulary) ||
                                     std::cmp_not_equal(values.hidden.size(), header.hidden)))) {
      throw Error(ErrorCode::internal,
                  fmt::format("cannot commit {} tokens to {}: {} ids, {} logits, {} hidden values "
                              "given",
                              token_count, file.path().string(), values.tokens.size(),
                              values.logits.size(), values.hidden.size()));
    }
  });
  const std::vector<std::string> all_runs = comm.gather_strings(runs, 0);
  ++sequence;
  const int slot = static_cast<int>(sequence % 2);
  comm.agree([&] {
    if (comm.is_root()) {
      for (const std::string& bytes : all_runs) table->enter(bytes);
      table->require_complete(token_count);
      marks = decoded;
      marks.resize(static_cast<std::size_t>(token_count), static_cast<std::byte>(origin));
      values.decoded = marks;
      write_values(values, slot);
    }
    file.sync();
  });
  comm.agree([&] {
    if (comm.is_root()) write_record(values, slot);
  });
  committed = token_count;
  decoded = std::move(marks);
}

CacheReader CacheWriter::read_back() const {
  const auto require_named = [this] { state_->comm.agree([&] { state_->require_named(); }); };
  std::optional<CacheReader> reader;
  try {
    reader = CacheReader::open_shared(state_->comm, state_->file.path());
  } catch (const Error& error) {
    if (error.is_agreed()) require_named();  // all ranks are here; it knows better why
    throw;
  }
  require_named();
  return std::move(*reader);
}

void CacheWriter::commit(std::int64_t token_count, std::span<const std::int32_t> tokens,
                         std::span<const float> logits, std::span<const float> hidden,
                         RowOrigin origin) {
  // After a failed write or sync the page cache may hold less than was written: nothing that
  // follows could be trusted.
  if (state_->failure) throw *state_->failure;
  try {
    state_->comm.agree([&] {
      if (state_->comm.is_root()) state_->require_named();
    });
    state_->commit(token_count,
                   {.tokens = tokens, .decoded = {}, .logits = logits, .hidden = hidden}, origin);
  } catch (const Error& error) {
    state_->failure = error;
    throw;
  }
}

}  // namespace powerprefill
