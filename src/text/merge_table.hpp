// The merges of a BPE model: a flat hash table from pairs of ids.
#pragma once

#include <cstdint>
#include <vector>

namespace powerprefill::text {

class MergeTable {
 public:
  struct Merge {
    std::int32_t rank;  // lower goes first
    std::int32_t id;    // of the merged token
  };

  // Room for `count` merges.
  explicit MergeTable(std::size_t count = 0);

  // A pair that is there already gets the new merge. At most `count` different pairs.
  void set(std::int32_t left, std::int32_t right, Merge merge);
  // nullptr when the pair does not merge.
  const Merge* find(std::int32_t left, std::int32_t right) const;

 private:
  struct Slot {
    std::uint64_t pair = kEmpty;
    Merge merge{};
  };
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};  // no pair: ids are not negative
  std::size_t slot_of(std::uint64_t pair) const;

  std::vector<Slot> slots_;  // a power of two, at most half full
};

}  // namespace powerprefill::text
