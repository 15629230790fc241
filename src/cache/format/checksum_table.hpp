// The checksums of a cache file: one slot of /checksums, and of /hidden_checksums if it exists.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cache/format/header.hpp"

namespace powerprefill {

// Checksums of consecutive blocks of one dataset.
struct ChecksumRun {
  std::int64_t column = 0;  // layer * 2 + part (0: key, 1: value); num_layers * 2: /hidden_all
  std::int64_t first_block = 0;
  std::int64_t last_rows = 0;  // rows of the last block; the others have all B
  std::vector<std::uint64_t> sums;
};

// "layer 3 value", or "hidden".
std::string name_of_column(std::int64_t column, const CacheHeader& header);

// Runs as bytes, for other ranks of the same build.
std::string to_bytes(std::span<const ChecksumRun> runs);

// What a commit holds besides keys and values, as the table hash sees it.
struct CommittedValues {
  std::span<const std::int32_t> tokens;  // (n)
  std::span<const std::byte> decoded;    // (n)
  std::span<const float> logits;         // (V)
  std::span<const float> hidden;         // (E)
};

class ChecksumTable {
 public:
  explicit ChecksumTable(const CacheHeader& header);

  // Enters a run, or the runs that to_bytes() packed. Throws Error(internal) when they do not fit.
  void enter(const ChecksumRun& run) { enter(to_bytes(std::span(&run, 1))); }
  void enter(const std::string& runs);
  // Throws Error(internal) unless every block of n tokens was entered with the rows that it has.
  void require_complete(std::int64_t tokens) const;

  // In the order of the file: (N, 2, blocks); whole slots, with entries beyond the committed ones.
  std::span<std::uint64_t> sums();
  std::span<const std::uint64_t> sums() const;
  // (blocks), or empty.
  std::span<std::uint64_t> hidden_sums();
  std::span<const std::uint64_t> hidden_sums() const;
  std::uint64_t sum(std::int64_t column, std::int64_t block) const;
  std::int64_t columns() const { return columns_; }

  // The hash that the commit record carries: over the entries of the first ceil(n / B) blocks of
  // each column, then the hashes of the four values. n = values.tokens.size().
  std::uint64_t hash(const CommittedValues& values) const;

 private:
  CacheHeader header_;
  std::int64_t kv_columns_ = 0;
  std::int64_t columns_ = 0;
  std::int64_t blocks_ = 0;
  std::int64_t block_tokens_ = 0;
  std::vector<std::uint64_t> sums_;  // (columns, blocks)
  std::vector<std::int32_t> rows_;   // (columns, blocks), rows that the checksum covers
};

}  // namespace powerprefill
