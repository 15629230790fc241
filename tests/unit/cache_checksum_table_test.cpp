#include <gtest/gtest.h>

#include "cache/format/checksum_table.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill {
namespace {

CacheHeader header_of(bool saves_hidden) {
  CacheHeader header;
  header.capacity = 40;
  header.block_tokens = 10;
  header.num_layers = 2;
  header.saves_hidden = saves_hidden;
  return header;
}

// All columns of 25 tokens: three blocks, the last with five rows.
std::vector<ChecksumRun> complete_runs(std::int64_t columns) {
  std::vector<ChecksumRun> runs;
  for (std::int64_t column = 0; column < columns; ++column) {
    const auto base = static_cast<std::uint64_t>(10 * column);
    runs.push_back(
        {.column = column, .first_block = 0, .last_rows = 10, .sums = {base + 1, base + 2}});
    runs.push_back({.column = column, .first_block = 2, .last_rows = 5, .sums = {base + 3}});
  }
  return runs;
}

struct Values {
  std::vector<std::int32_t> tokens = std::vector<std::int32_t>(25, 7);
  std::vector<std::byte> decoded = std::vector<std::byte>(25);
  std::vector<float> logits = {1.0F, 2.0F};
  std::vector<float> hidden = {3.0F};
  operator CommittedValues() const {
    return {.tokens = tokens, .decoded = decoded, .logits = logits, .hidden = hidden};
  }
};

TEST(ChecksumTable, KeepsTheOrderOfTheFile) {
  ChecksumTable table(header_of(true));
  table.enter(to_bytes(complete_runs(5)));
  EXPECT_EQ(table.sums().size(), 2U * 2U * 4U);
  EXPECT_EQ(table.sums()[1 * 4 + 2], 13U);  // layer 0, value, block 2
  EXPECT_EQ(table.sums()[2 * 4 + 0], 21U);  // layer 1, key, block 0
  EXPECT_EQ(table.hidden_sums().size(), 4U);
  EXPECT_EQ(table.hidden_sums()[1], 42U);
  EXPECT_EQ(table.sum(3, 1), 32U);
}

TEST(ChecksumTable, KnowsWhatIsMissing) {
  ChecksumTable table(header_of(false));
  auto runs = complete_runs(4);
  EXPECT_THROW(table.require_complete(25), Error);
  const ChecksumRun last = runs.back();
  runs.pop_back();
  table.enter(to_bytes(runs));
  try {
    table.require_complete(25);
    FAIL() << "a missing block was not noticed";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("layer 1 value block 2"), std::string::npos);
  }
  table.enter(to_bytes(std::vector{last}));
  EXPECT_NO_THROW(table.require_complete(25));
  EXPECT_THROW(table.require_complete(24), Error);
  EXPECT_THROW(table.require_complete(30), Error);
  EXPECT_NO_THROW(table.require_complete(20));
}

TEST(ChecksumTable, LaterRunsReplaceTheTail) {
  ChecksumTable table(header_of(false));
  table.enter(to_bytes(complete_runs(4)));
  for (std::int64_t column = 0; column < 4; ++column) {
    table.enter(to_bytes(std::vector<ChecksumRun>{
        {.column = column, .first_block = 2, .last_rows = 8, .sums = {99}}}));
  }
  EXPECT_NO_THROW(table.require_complete(28));
  EXPECT_EQ(table.sum(0, 2), 99U);
}

TEST(ChecksumTable, RefusesRunsThatDoNotFit) {
  ChecksumTable table(header_of(false));
  const ChecksumRun good = {.column = 0, .first_block = 0, .last_rows = 10, .sums = {1}};
  std::vector<ChecksumRun> bad(6, good);
  bad[0].column = 4;
  bad[1].column = -1;
  bad[2].first_block = 4;
  bad[3].first_block = -1;
  bad[4].last_rows = 11;
  bad[5].sums.resize(5);
  for (const ChecksumRun& run : bad) {
    EXPECT_THROW(table.enter(to_bytes(std::vector{run})), Error);
  }
  const std::string bytes = to_bytes(std::vector{good});
  EXPECT_THROW(table.enter(bytes.substr(0, bytes.size() - 1)), Error);
  EXPECT_THROW(table.enter(bytes + "x"), Error);
  EXPECT_NO_THROW(table.enter(""));
}

TEST(ChecksumTable, HashCoversAllThatIsCommittedAndNothingElse) {
  const auto table_with = [](std::uint64_t first, std::uint64_t unused) {
    ChecksumTable table(header_of(true));
    table.enter(to_bytes(complete_runs(5)));
    table.sums()[0] = first;
    table.sums()[3] = unused;
    return table;
  };
  const Values values;
  const std::uint64_t hash = table_with(1, 0).hash(values);
  EXPECT_EQ(table_with(1, 12345).hash(values), hash);
  EXPECT_NE(table_with(2, 0).hash(values), hash);
  Values other = values;
  other.tokens[24] = 8;
  EXPECT_NE(table_with(1, 0).hash(other), hash);
  other = values;
  other.decoded[3] = std::byte{1};
  EXPECT_NE(table_with(1, 0).hash(other), hash);
  other = values;
  other.logits[0] = 0.0F;
  EXPECT_NE(table_with(1, 0).hash(other), hash);
  other = values;
  other.hidden[0] = 0.0F;
  EXPECT_NE(table_with(1, 0).hash(other), hash);
}

}  // namespace
}  // namespace powerprefill
