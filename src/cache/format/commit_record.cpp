#include "cache/format/commit_record.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/hash.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill {

static_assert(std::endian::native == std::endian::little, "the file format is little-endian");

namespace {

using Words = std::array<std::uint64_t, 8>;

std::uint64_t magic() {
  std::uint64_t word = 0;
  std::memcpy(&word, "PPKVCMT1", sizeof(word));
  return word;
}

std::uint64_t own_hash(const Words& words) {
  return hash_of(std::as_bytes(std::span(words).first<7>()));
}

}  // namespace

std::array<std::byte, kRecordBytes> encode(const CommitRecord& record) {
  const auto slots = static_cast<std::uint64_t>(record.value_slot | record.checksum_slot << 1);
  Words words = {magic(), record.generation, record.sequence,    record.tokens,
                 slots,   record.table_hash, record.header_hash, 0};
  words[7] = own_hash(words);
  return std::bit_cast<std::array<std::byte, kRecordBytes>>(words);
}

std::optional<CommitRecord> decode(std::span<const std::byte, kRecordBytes> bytes,
                                   std::uint64_t generation) {
  // By its own hash a record is whole or none: a torn write needs no other mark.
  Words words{};
  std::memcpy(words.data(), bytes.data(), kRecordBytes);
  if (words[0] != magic() || words[1] != generation || words[7] != own_hash(words) ||
      words[4] > 3) {
    return std::nullopt;
  }
  return CommitRecord{.generation = words[1],
                      .sequence = words[2],
                      .tokens = words[3],
                      .value_slot = static_cast<int>(words[4] & 1U),
                      .checksum_slot = static_cast<int>(words[4] >> 1),
                      .table_hash = words[5],
                      .header_hash = words[6]};
}

bool is_next_damaged(std::span<const std::byte> rows, std::uint64_t generation,
                     std::uint64_t sequence) {
  // Sound are zeros (the first round) and the record that the next will overwrite, of 16 commits
  // ago. To take anything else for a commit that was torn would let one that counted be forgotten.
  const std::uint64_t row = (sequence + 1) % kRecordRows;
  const auto bytes = rows.subspan(row * kRecordRowBytes).first<kRecordBytes>();
  const bool is_empty =
      std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
  return !is_empty && !decode(bytes, generation);
}

std::optional<CommitRecord> newest_record(std::span<const std::byte> rows,
                                          std::uint64_t generation) {
  if (rows.size() != kRecordRows * kRecordRowBytes) {
    throw Error(ErrorCode::internal, "the commit records have another size");
  }
  std::optional<CommitRecord> newest;
  for (std::uint64_t row = 0; row < kRecordRows; ++row) {
    const auto record =
        decode(rows.subspan(row * kRecordRowBytes).first<kRecordBytes>(), generation);
    // Nobody writes a record to another row than its own.
    if (!record || record->sequence == 0 || record->sequence % kRecordRows != row) continue;
    if (!newest || record->sequence > newest->sequence) newest = record;
  }
  return newest;
}

}  // namespace powerprefill
