// How rows come to count.
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

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
  // Rows and runs may be of any rank: rank 0 alone can tell whether one is missing.
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
  // Only now, when every rank has synced: a record that reaches the disk before what it names would
  // be a commit of nothing, after a power cut.
  comm.agree([&] {
    if (comm.is_root()) write_record(values, slot);
  });
  committed = token_count;
  decoded = std::move(marks);
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
