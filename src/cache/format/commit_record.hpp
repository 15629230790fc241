// The 64 bytes that make written rows count.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace powerprefill {

// /commit has this shape; each row holds one record in its first bytes. A row is a sector or more
// of any disk, so that writing one record cannot touch another.
inline constexpr std::int64_t kRecordRows = 16;
inline constexpr std::int64_t kRecordRowBytes = 4096;
inline constexpr std::size_t kRecordBytes = 64;

struct CommitRecord {
  std::uint64_t generation = 0;
  std::uint64_t sequence = 0;  // 1 for the first commit; stored in row sequence % kRecordRows
  std::uint64_t tokens = 0;    // n
  int value_slot = 0;          // of /logits and /hidden
  int checksum_slot = 0;       // of /checksums and /hidden_checksums
  std::uint64_t table_hash = 0;
  std::uint64_t header_hash = 0;

  bool operator==(const CommitRecord&) const = default;
};

// Eight little-endian u64: magic, generation, sequence, tokens, slots (bit 0: value_slot, bit 1:
// checksum_slot), table hash, header hash, XXH3-64 of the 56 bytes before.
std::array<std::byte, kRecordBytes> encode(const CommitRecord& record);

// Empty unless the bytes are an intact record of the file `generation`.
std::optional<CommitRecord> decode(std::span<const std::byte, kRecordBytes> bytes,
                                   std::uint64_t generation);

// Whether the place of the record after number `sequence` (0: of the first) holds something, and no
// intact record. It may have been one that counted, so it must not be passed over.
bool is_next_damaged(std::span<const std::byte> rows, std::uint64_t generation,
                     std::uint64_t sequence);

// The newest intact record in the contents of /commit (kRecordRows x kRecordRowBytes).
std::optional<CommitRecord> newest_record(std::span<const std::byte> rows,
                                          std::uint64_t generation);

}  // namespace powerprefill
