#include "cache/format/checksum_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/checked.hpp"
#include "base/hash.hpp"

namespace powerprefill {

namespace {

using RunHead = std::array<std::int64_t, 4>;  // column, first block, rows of the last, blocks

}  // namespace

std::string name_of_column(std::int64_t column, const CacheHeader& header) {
  if (column == 2 * header.num_layers) return "hidden";
  return fmt::format("layer {} {}", column / 2, column % 2 == 0 ? "key" : "value");
}

std::string to_bytes(std::span<const ChecksumRun> runs) {
  std::string bytes;
  for (const ChecksumRun& run : runs) {
    const RunHead head = {run.column, run.first_block, run.last_rows,
                          checked_cast<std::int64_t>(run.sums.size())};
    const auto start = bytes.size();
    bytes.resize(start + sizeof(head) + run.sums.size() * sizeof(std::uint64_t));
    std::memcpy(bytes.data() + start, head.data(), sizeof(head));
    if (run.sums.empty()) continue;
    std::memcpy(bytes.data() + start + sizeof(head), run.sums.data(),
                run.sums.size() * sizeof(std::uint64_t));
  }
  return bytes;
}

ChecksumTable::ChecksumTable(const CacheHeader& header)
    : header_(header),
      kv_columns_(2 * header.num_layers),
      columns_(kv_columns_ + (header.saves_hidden ? 1 : 0)),
      blocks_(header.blocks()),
      block_tokens_(header.block_tokens),
      sums_(static_cast<std::size_t>(checked_mul(columns_, blocks_)), 0) {}

void ChecksumTable::enter(const std::string& runs) {
  rows_.resize(sums_.size(), 0);
  const Error misfit(ErrorCode::internal, "checksums from another rank do not fit the cache file");
  for (std::size_t at = 0; at < runs.size();) {
    RunHead head{};
    if (runs.size() - at < sizeof(head)) throw misfit;
    std::memcpy(head.data(), runs.data() + at, sizeof(head));
    at += sizeof(head);
    const auto [column, first, last_rows, count] = head;
    if (column < 0 || column >= columns_ || count < 0 || count > blocks_ || first < 0 ||
        first > blocks_ - count || last_rows < 1 || last_rows > block_tokens_) {
      throw misfit;
    }
    const auto bytes = static_cast<std::size_t>(count) * sizeof(std::uint64_t);
    if (runs.size() - at < bytes) throw misfit;
    const auto start = static_cast<std::size_t>(column * blocks_ + first);
    if (count == 0) continue;
    std::memcpy(sums_.data() + start, runs.data() + at, bytes);
    const auto entries = std::span(rows_).subspan(start, static_cast<std::size_t>(count));
    std::fill(entries.begin(), entries.end(), static_cast<std::int32_t>(block_tokens_));
    entries.back() = static_cast<std::int32_t>(last_rows);
    at += bytes;
  }
}

void ChecksumTable::require_complete(std::int64_t tokens) const {
  for (std::int64_t column = 0; column < columns_; ++column) {
    for (std::int64_t block = 0; block < ceil_div(tokens, block_tokens_); ++block) {
      const std::int64_t expected = std::min(block_tokens_, tokens - block * block_tokens_);
      const auto entry = static_cast<std::size_t>(column * blocks_ + block);
      const std::int64_t found = rows_.empty() ? 0 : rows_[entry];
      if (found != expected) {
        throw Error(ErrorCode::internal,
                    fmt::format("commit of {} tokens: {} block {} has {} rows written, not {}",
                                tokens, name_of_column(column, header_), block, found, expected));
      }
    }
  }
}

std::span<std::uint64_t> ChecksumTable::sums() {
  return std::span(sums_).first(static_cast<std::size_t>(kv_columns_ * blocks_));
}
std::span<const std::uint64_t> ChecksumTable::sums() const {
  return std::span(sums_).first(static_cast<std::size_t>(kv_columns_ * blocks_));
}
std::span<std::uint64_t> ChecksumTable::hidden_sums() {
  return std::span(sums_).subspan(static_cast<std::size_t>(kv_columns_ * blocks_));
}
std::span<const std::uint64_t> ChecksumTable::hidden_sums() const {
  return std::span(sums_).subspan(static_cast<std::size_t>(kv_columns_ * blocks_));
}

std::uint64_t ChecksumTable::sum(std::int64_t column, std::int64_t block) const {
  return sums_.at(static_cast<std::size_t>(column * blocks_ + block));
}

std::uint64_t ChecksumTable::hash(const CommittedValues& values) const {
  const auto tokens = checked_cast<std::int64_t>(values.tokens.size());
  const auto used = static_cast<std::size_t>(ceil_div(tokens, block_tokens_));
  Hasher hasher;
  for (std::int64_t column = 0; column < columns_; ++column) {
    hasher.update(
        std::as_bytes(std::span(sums_).subspan(static_cast<std::size_t>(column * blocks_), used)));
  }
  hasher.update(hash_of(std::as_bytes(values.tokens)));
  hasher.update(hash_of(values.decoded));
  hasher.update(hash_of(std::as_bytes(values.logits)));
  hasher.update(hash_of(std::as_bytes(values.hidden)));
  return hasher.digest();
}

}  // namespace powerprefill
