#include <gtest/gtest.h>

#include <ctime>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "text/merge.hpp"

namespace powerprefill::text {
namespace {

using Ids = std::vector<std::int32_t>;
using Rules = std::map<std::pair<std::int32_t, std::int32_t>, MergeTable::Merge>;

MergeTable table_of(const Rules& rules) {
  MergeTable table(rules.size());
  for (const auto& [pair, merge] : rules) table.set(pair.first, pair.second, merge);
  return table;
}

// The definition: as long as some pair merges, the leftmost of the lowest rank does.
Ids merge_plainly(const Rules& rules, Ids ids) {
  for (;;) {
    std::size_t best = ids.size();
    MergeTable::Merge merge{};
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto found = rules.find({ids[i], ids[i + 1]});
      if (found == rules.end()) continue;
      if (best == ids.size() || found->second.rank < merge.rank) {
        best = i;
        merge = found->second;
      }
    }
    if (best == ids.size()) return ids;
    ids[best] = merge.id;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(Merger, agrees_with_the_definition) {
  std::mt19937 random(7);
  Merger merger;
  for (int round = 0; round < 300; ++round) {
    Rules rules;
    std::int32_t tokens = 2 + static_cast<std::int32_t>(random() % 3);
    const std::int32_t letters = tokens;
    for (std::int32_t rank = 0; rank < 40; ++rank) {
      const auto left = static_cast<std::int32_t>(random() % static_cast<unsigned>(tokens));
      const auto right = static_cast<std::int32_t>(random() % static_cast<unsigned>(tokens));
      if (rules.try_emplace({left, right}, MergeTable::Merge{rank, tokens}).second) ++tokens;
    }
    const MergeTable table = table_of(rules);
    for (int word = 0; word < 20; ++word) {
      Ids ids(random() % 60);
      for (auto& id : ids)
        id = static_cast<std::int32_t>(random() % static_cast<unsigned>(letters));
      const Ids expected = merge_plainly(rules, ids);
      merger.run(table, ids);
      ASSERT_EQ(ids, expected);
    }
  }
}

TEST(Merger, ends) {
  Merger merger;
  Ids ids;
  merger.run(MergeTable(), ids);
  EXPECT_TRUE(ids.empty());
  ids = {3};
  merger.run(table_of({{{3, 3}, {0, 4}}}), ids);
  EXPECT_EQ(ids, Ids{3});
}

// A quadratic merger would take hours for this.
TEST(Merger, long_words_take_no_quadratic_time) {
  Rules rules;
  for (std::int32_t rank = 0; rank < 10; ++rank) rules[{rank, rank}] = {rank, rank + 1};
  Ids ids(2'000'003, 0);
  Merger merger;
  const std::clock_t begin = std::clock();
  merger.run(table_of(rules), ids);
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  EXPECT_EQ(ids.size(), 2'000'003U / 1024 + 3);  // 131 left over are 128, 2 and 1
  EXPECT_LT(seconds, 60);
}

TEST(MergeTable, later_merges_replace_earlier_ones) {
  MergeTable table(2);
  table.set(1, 2, {0, 10});
  table.set(1, 2, {5, 11});
  ASSERT_NE(table.find(1, 2), nullptr);
  EXPECT_EQ(table.find(1, 2)->id, 11);
  EXPECT_EQ(table.find(2, 1), nullptr);
}

}  // namespace
}  // namespace powerprefill::text
