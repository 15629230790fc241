#include "cache/writer.hpp"

#include <fmt/format.h>

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/checked.hpp"
#include "cache/writer_state.hpp"

namespace powerprefill {

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

CacheReader CacheWriter::read_back() const {
  std::optional<CacheReader> reader;
  std::optional<Error> failure;
  try {
    reader = CacheReader::open_shared(state_->comm, state_->file.path());
  } catch (const Error& error) {
    if (!error.is_agreed()) throw;
    failure = error;
  }
  // All ranks are here, whether they could read or not. A file that has lost its name is the better
  // reason, and is one where another file of that name could be read, too.
  state_->comm.agree([&] { state_->require_named(); });
  if (failure) throw *failure;
  return std::move(*reader);
}

}  // namespace powerprefill
