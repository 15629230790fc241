// The merges of a BPE model, and byte-pair merging of one word.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace powerprefill::text {

// A flat hash table from pairs of ids.
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

// Merges neighbours in place until none merge: always the pair of the lowest rank, and of equal
// ones the leftmost. O(n log n) for n ids, through a heap of candidates. Keeps its memory between
// words.
class Merger {
 public:
  void run(const MergeTable& merges, std::vector<std::int32_t>& ids);

 private:
  struct Symbol {
    std::int32_t id;        // kGone: it has become part of its left neighbour
    std::int32_t previous;  // -1: none
    std::int32_t next;      // -1: none
  };
  struct Candidate {
    std::int32_t rank;
    std::int32_t position;  // of the left one
    std::int32_t id;        // of the merged token
  };

  void offer(const MergeTable& merges, std::int32_t left, bool heap);

  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

}  // namespace powerprefill::text
