// Byte-pair merging of one word.
#pragma once

#include <cstdint>
#include <vector>

#include "text/merge_table.hpp"

namespace powerprefill::text {

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
