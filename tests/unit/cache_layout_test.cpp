#include <gtest/gtest.h>

#include "cache/format/attributes.hpp"
#include "cache/format/layout.hpp"

namespace powerprefill {
namespace {

CacheHeader small_header() {
  CacheHeader header;
  header.generation = 1;
  header.capacity = 64;
  header.block_tokens = 16;
  header.num_layers = 3;
  header.num_kv_heads = 2;
  header.head_dim = 8;
  header.hidden = 32;
  header.vocabulary = 100;
  header.dtype = DType::bf16;
  return header;
}

// Datasets one after the other, from `first` on.
std::vector<std::int64_t> packed(const CacheHeader& header, std::int64_t first) {
  std::vector<std::int64_t> offsets;
  for (const auto& spec : datasets_of(header)) {
    offsets.push_back(first);
    first += spec.bytes();
  }
  return offsets;
}

TEST(CacheDatasets, AreTheDocumentedOnes) {
  CacheHeader header = small_header();
  header.saves_hidden = true;
  std::vector<std::string> names;
  for (const auto& spec : datasets_of(header)) names.push_back(spec.name);
  const std::vector<std::string> expected = {"/tokens",          "/decoded",
                                             "/checksums",       "/logits",
                                             "/hidden",          "/commit",
                                             "/hidden_all",      "/hidden_checksums",
                                             "/layers/0000/key", "/layers/0000/value",
                                             "/layers/0001/key", "/layers/0001/value",
                                             "/layers/0002/key", "/layers/0002/value"};
  EXPECT_EQ(names, expected);
}

TEST(CacheLayout, FindsRowsAndSlots) {
  CacheHeader header = small_header();
  header.saves_hidden = true;
  const auto offsets = packed(header, 1000);
  const CacheLayout layout(header, offsets);
  EXPECT_EQ(layout.tokens(), 1000);
  EXPECT_EQ(layout.decoded(), 1000 + 64 * 4);
  EXPECT_EQ(layout.checksums(1) - layout.checksums(0), 3 * 2 * 4 * 8);
  EXPECT_EQ(layout.logits(1) - layout.logits(0), 400);
  EXPECT_EQ(layout.hidden(1) - layout.hidden(0), 128);
  EXPECT_EQ(layout.records(), offsets[5]);
  EXPECT_EQ(layout.hidden_rows(3), offsets[6] + 3 * 128);
  EXPECT_EQ(layout.hidden_checksums(1), offsets[7] + 4 * 8);
  EXPECT_EQ(layout.rows(0, 0, 0), offsets[8]);
  EXPECT_EQ(layout.rows(2, 1, 5), offsets[13] + 5 * 2 * 8 * 2);
}

TEST(CacheLayout, WorksBeyondTwoToThe31Elements) {
  CacheHeader header = small_header();
  header.capacity = std::int64_t{1} << 33;
  header.num_layers = 80;
  header.num_kv_heads = 8;
  header.head_dim = 128;
  ASSERT_EQ(problem_of(header), "");
  const CacheLayout layout(header, packed(header, 0));
  const std::int64_t token = header.capacity - 1;
  EXPECT_EQ(layout.rows(79, 1, token) - layout.rows(79, 1, 0), token * 2048);
  EXPECT_GT(layout.rows(79, 1, token), std::int64_t{1} << 51);
}

TEST(CacheLayout, NeedsAnOffsetForEachDataset) {
  EXPECT_THROW(CacheLayout(small_header(), {1, 2, 3}), Error);
}

TEST(CacheHeaderProblem, NamesWhatIsOutOfBounds) {
  EXPECT_EQ(problem_of(small_header()), "");
  struct Case {
    std::int64_t CacheHeader::*field;
    std::int64_t value;
    const char* name;
  };
  const Case cases[] = {
      {&CacheHeader::capacity, 65, "capacity"},
      {&CacheHeader::capacity, std::int64_t{1} << 41, "capacity"},
      {&CacheHeader::capacity, 0, "capacity"},
      {&CacheHeader::block_tokens, -16, "block_tokens"},
      {&CacheHeader::num_layers, 10000, "num_layers"},
      {&CacheHeader::num_kv_heads, 0, "num_kv_heads"},
      {&CacheHeader::head_dim, std::int64_t{1} << 62, "head_dim"},
      {&CacheHeader::hidden, 0, "hidden_size"},
      {&CacheHeader::vocabulary, -1, "vocabulary"},
  };
  for (const Case& c : cases) {
    CacheHeader header = small_header();
    header.*c.field = c.value;
    EXPECT_NE(problem_of(header).find(c.name), std::string::npos) << c.name;
  }
}

TEST(CacheHeaderProblem, NoticesProductsThatOverflow) {
  CacheHeader header = small_header();
  header.capacity = std::int64_t{1} << 40;
  header.num_kv_heads = std::int64_t{1} << 12;
  header.head_dim = std::int64_t{1} << 12;
  EXPECT_NE(problem_of(header), "");
}

TEST(HeaderHash, ChangesWithEveryField) {
  const CacheHeader header = small_header();
  const std::uint64_t before = header_hash(header);
  EXPECT_EQ(header_hash(header), before);
  std::vector<CacheHeader> others(19, header);
  others[0].generation++;
  others[1].capacity++;
  others[2].block_tokens++;
  others[3].num_layers++;
  others[4].num_kv_heads++;
  others[5].head_dim++;
  others[6].hidden++;
  others[7].vocabulary++;
  others[8].dtype = DType::f16;
  others[9].weights_fingerprint = "w";
  others[10].config_fingerprint = "c";
  others[11].tokenizer_fingerprint = "t";
  others[12].schedule = "s";
  others[13].rope = "r";
  others[14].compute = "f32";
  others[15].numerics = "n";
  others[16].writer = "p";
  others[17].saves_hidden = true;
  others[18].version_minor++;
  for (const CacheHeader& other : others) EXPECT_NE(header_hash(other), before);
}

}  // namespace
}  // namespace powerprefill
