#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "cache/format/commit_record.hpp"

namespace powerprefill {
namespace {

constexpr std::uint64_t kGeneration = 0x0123456789abcdefULL;

CommitRecord record_of(std::uint64_t sequence) {
  return {.generation = kGeneration,
          .sequence = sequence,
          .tokens = 100 * sequence,
          .value_slot = static_cast<int>(sequence % 2),
          .checksum_slot = static_cast<int>(sequence % 2),
          .table_hash = 7,
          .header_hash = 8};
}

class Rows {
 public:
  void put(const CommitRecord& record, std::uint64_t row) {
    const auto bytes = encode(record);
    std::memcpy(at(row), bytes.data(), bytes.size());
  }
  void put(const CommitRecord& record) { put(record, record.sequence % kRecordRows); }
  std::byte* at(std::uint64_t row) { return bytes_.data() + row * kRecordRowBytes; }
  std::uint64_t newest() const {
    const auto record = newest_record(bytes_, kGeneration);
    return record ? record->sequence : 0;
  }
  bool is_next_damaged(std::uint64_t sequence) const {
    return powerprefill::is_next_damaged(bytes_, kGeneration, sequence);
  }

 private:
  std::vector<std::byte> bytes_ = std::vector<std::byte>(kRecordRows * kRecordRowBytes);
};

TEST(CommitRecord, ComesBackFromItsBytes) {
  CommitRecord record = record_of(5);
  for (int slots = 0; slots < 4; ++slots) {
    record.value_slot = slots & 1;
    record.checksum_slot = slots >> 1;
    EXPECT_EQ(decode(encode(record), kGeneration), record);
  }
}

TEST(CommitRecord, HasTheDocumentedBytes) {
  const auto bytes = encode(record_of(3));
  EXPECT_EQ(std::memcmp(bytes.data(), "PPKVCMT1", 8), 0);
  EXPECT_EQ(bytes[8], std::byte{0xef});   // generation, lowest byte first
  EXPECT_EQ(bytes[16], std::byte{3});     // sequence
  EXPECT_EQ(bytes[25], std::byte{0x01});  // 300 tokens
  EXPECT_EQ(bytes[32], std::byte{3});     // both slots are 1
}

TEST(CommitRecord, EveryFlippedBitIsNoticed) {
  const auto good = encode(record_of(5));
  for (std::size_t bit = 0; bit < 8 * kRecordBytes; ++bit) {
    auto bad = good;
    bad[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_FALSE(decode(bad, kGeneration)) << "bit " << bit;
  }
}

TEST(CommitRecord, AnotherFilesRecordIsNotOurs) {
  EXPECT_FALSE(decode(encode(record_of(5)), kGeneration + 1));
}

TEST(NewestRecord, IsNoneInAnEmptyFile) {
  EXPECT_EQ(Rows().newest(), 0U);
}

TEST(NewestRecord, FollowsTheSequenceAroundTheRows) {
  Rows rows;
  for (std::uint64_t sequence = 1; sequence <= 40; ++sequence) {
    rows.put(record_of(sequence));
    EXPECT_EQ(rows.newest(), sequence);
  }
}

TEST(NewestRecord, IsNotTrustedWhenTheNextIsDamaged) {
  Rows rows;
  EXPECT_FALSE(rows.is_next_damaged(0));
  for (std::uint64_t sequence = 1; sequence <= 40; ++sequence) {
    rows.put(record_of(sequence));
    EXPECT_FALSE(rows.is_next_damaged(sequence));
    for (std::size_t byte = 0; byte < kRecordBytes; ++byte) {
      Rows damaged = rows;
      damaged.at(sequence % kRecordRows)[byte] ^= std::byte{0x10};
      EXPECT_EQ(damaged.newest(), sequence - 1);
      EXPECT_TRUE(damaged.is_next_damaged(sequence - 1))
          << "commit " << sequence << " byte " << byte;
    }
  }
  // Records that no longer matter.
  rows.at(39 % kRecordRows)[20] ^= std::byte{1};
  rows.at(41 % kRecordRows)[kRecordBytes] ^= std::byte{1};
  EXPECT_FALSE(rows.is_next_damaged(40));
  // One that was taken back.
  std::fill_n(rows.at(40 % kRecordRows), kRecordBytes, std::byte{0});
  EXPECT_FALSE(rows.is_next_damaged(39));
}

TEST(NewestRecord, IsTheOneBeforeWhenTheNewestIsTorn) {
  Rows rows;
  for (std::uint64_t sequence = 1; sequence <= 20; ++sequence) rows.put(record_of(sequence));
  const auto torn = encode(record_of(21));
  std::copy_n(torn.begin(), 32, rows.at(21 % kRecordRows));
  EXPECT_EQ(rows.newest(), 20U);
  EXPECT_TRUE(rows.is_next_damaged(20));
}

TEST(NewestRecord, IgnoresRecordsInForeignRows) {
  Rows rows;
  rows.put(record_of(2));
  rows.put(record_of(9), 4);
  EXPECT_EQ(rows.newest(), 2U);
}

TEST(NewestRecord, RefusesAnotherSize) {
  EXPECT_THROW(newest_record(std::vector<std::byte>(64), kGeneration), std::exception);
}

}  // namespace
}  // namespace powerprefill
