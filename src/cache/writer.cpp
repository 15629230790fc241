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
#include "base/files.hpp"
#include "cache/attributes.hpp"
#include "cache/checksum_table.hpp"
#include "cache/commit_record.hpp"
#include "cache/layout.hpp"
#include "cache/pending_file.hpp"
#include "cache/row_writer.hpp"

namespace powerprefill {

struct CacheWriter::State {
  mpi::Communicator comm;
  CacheHeader header;
  CacheLayout layout;
  FileHandle file;  // on rank 0 it holds the writer's lock
  std::vector<std::string> warnings;
  std::uint64_t sequence = 0;
  std::optional<ChecksumTable> table;  // rank 0: of the whole file
  std::optional<Error> failure;        // of an earlier commit, on every rank
  std::optional<RowWriter> rows;       // last: its thread uses `file`

  void write_values(const CommittedValues& values, int slot);
  void write_record(const CommittedValues& values, int slot);
  void commit(std::int64_t token_count, CommittedValues values);
};

namespace {

void sync_data(const FileHandle& file) {
  if (::fdatasync(file.fd()) != 0) {
    throw Error(ErrorCode::storage, fmt::format("cannot sync the commit record of {}: {}",
                                                file.path().string(), reason_of_errno(errno)));
  }
}

// Upper bound of the file's length, generous to HDF5's own structure.
std::int64_t largest_file(const CacheHeader& header) {
  constexpr std::int64_t structure = std::int64_t{1} << 20;
  constexpr std::int64_t each_dataset = std::int64_t{16} << 10;
  std::int64_t bytes = structure;
  for (const hdf5::DatasetSpec& spec : datasets_of(header)) bytes += spec.bytes() + each_dataset;
  return bytes;
}

// Makes HDF5's structure in `image`, an empty file that stays sparse and loses its name here, and
// returns the offsets of datasets_of(header).
std::vector<std::int64_t> make_structure(const FileHandle& image, const CacheHeader& header) {
  struct Unlink {  // HDF5 and `image` keep it open
    const std::filesystem::path& path;
    ~Unlink() { ::unlink(path.c_str()); }
  };
  hdf5::File file = [&] {
    const Unlink after_opening{image.path()};
    return hdf5::File::create(image.path());
  }();
  if (header.dtype == DType::bf16) file.name_type("/bfloat16", hdf5::Element::bf16);
  write_attributes(file, header);
  std::vector<std::int64_t> offsets;
  for (const hdf5::DatasetSpec& spec : datasets_of(header)) {
    offsets.push_back(file.make_dataset(spec));
  }
  file.finish();
  return offsets;
}

void require_equal_headers(const mpi::Communicator& comm, const CacheHeader& header) {
  const auto hash = static_cast<std::int64_t>(header_hash(header));
  if (comm.min(hash) != comm.max(hash)) {
    throw Error::agreed(ErrorCode::internal, "the ranks describe different cache files", 0);
  }
}

}  // namespace

CacheWriter CacheWriter::create(const mpi::Communicator& comm, const std::filesystem::path& path,
                                const CacheHeader& header, bool force) {
  auto state = std::make_unique<State>();
  state->comm = comm.dup();
  state->header = header;
  std::optional<PendingFile> pending;  // rank 0
  comm.agree([&] {
    const std::string problem = problem_of(header);
    if (!problem.empty()) throw Error(ErrorCode::internal, "cannot make a cache file: " + problem);
    if (!comm.is_root()) return;
    pending.emplace(path, force);
    pending->require_space(largest_file(header));
  });
  state->header.generation = pending ? pending->generation() : 0;
  comm.broadcast_value(state->header.generation, 0);
  require_equal_headers(comm, state->header);

  const std::filesystem::path temporary =
      comm.broadcast_string(pending ? pending->temporary().string() : "", 0);
  const std::filesystem::path probe =
      comm.broadcast_string(pending ? pending->probe().string() : "", 0);
  const std::string probe_text = comm.broadcast_string(pending ? pending->probe_text() : "", 0);
  comm.agree([&] { require_shared_folder(probe, probe_text); });

  std::vector<std::int64_t> offsets(datasets_of(header).size());
  comm.agree([&] {
    if (!pending) return;
    const FileHandle image = pending->structure_image();
    offsets = make_structure(image, state->header);
    pending->copy_structure(image);
  });
  comm.broadcast(std::as_writable_bytes(std::span(offsets)), 0);
  state->layout = CacheLayout(state->header, std::move(offsets));

  std::uint64_t inode = 0;
  comm.agree([&] {
    if (!pending) return;
    pending->reserve();
    inode = pending->inode();
  });
  comm.broadcast_value(inode, 0);
  // Before the new name exists, so that a file that is replaced is lost only to a complete one.
  comm.agree([&] {
    if (!comm.is_root()) state->file = open_shared_file(temporary, inode, path);
  });
  comm.agree([&] {
    if (!pending) return;
    state->file = pending->publish();
    state->warnings = pending->warnings();
    state->table.emplace(state->header);
  });
  comm.agree([&] { state->rows.emplace(state->file); });
  return CacheWriter(std::move(state));
}

CacheWriter::CacheWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
CacheWriter::CacheWriter(CacheWriter&&) noexcept = default;
CacheWriter& CacheWriter::operator=(CacheWriter&&) noexcept = default;
CacheWriter::~CacheWriter() = default;

const CacheHeader& CacheWriter::header() const {
  return state_->header;
}
const std::vector<std::string>& CacheWriter::warnings() const {
  return state_->warnings;
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
  file.write_at(std::as_bytes(values.tokens), layout.tokens());
  file.write_at(values.decoded, layout.decoded());
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

void CacheWriter::State::commit(std::int64_t token_count, CommittedValues values) {
  std::string runs;
  std::vector<std::byte> decoded;
  comm.agree([&] {
    runs = to_bytes(rows->finish());
    const bool fits = token_count > 0 && token_count <= header.capacity;
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
      decoded.resize(static_cast<std::size_t>(token_count));
      values.decoded = decoded;
      write_values(values, slot);
    }
    file.sync();
  });
  comm.agree([&] {
    if (comm.is_root()) write_record(values, slot);
  });
}

void CacheWriter::commit(std::int64_t token_count, std::span<const std::int32_t> tokens,
                         std::span<const float> logits, std::span<const float> hidden) {
  // After a failed write or sync the page cache may hold less than was written: nothing that
  // follows could be trusted.
  if (state_->failure) throw *state_->failure;
  try {
    state_->commit(token_count,
                   {.tokens = tokens, .decoded = {}, .logits = logits, .hidden = hidden});
  } catch (const Error& error) {
    state_->failure = error;
    throw;
  }
}

}  // namespace powerprefill
