// Pictures of patterns, as SVG files that stand alone: what a block attends to, how far it sees
// after each layer, and how patterns compare.
//
// Sizes are in CSS pixels; text is in a generic sans-serif family; curves differ in colour, dash
// and marker, so that they can be told apart in grey as well.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "powerprefill/pattern.hpp"

namespace powerprefill {

// One line of the coverage chart.
struct CoverageCurve {
  std::string name;
  std::int64_t keys = 0;             // blocks that the last block attends to: the budget
  std::vector<double> covered = {};  // (layers + 1) the share of earlier blocks seen after k layers
  bool chosen = false;               // drawn strongest
};

// The pattern whose mask and spread are drawn.
struct PatternPicture {
  std::string name;  // e.g. "power (window 5, sink 1)"
  std::int64_t blocks = 0;
  std::int64_t layers = 0;
  // (blocks) The layers after which the last block sees each block: 0 itself, -1 never.
  std::vector<std::int64_t> layers_to = {};
};

// Mask, spread and the curves of all patterns in one figure. Attended pairs are sub-paths "Mx
// yh1v1h-1z" of the element with id "mask", x the key block and y the query block; prompts beyond
// 256 blocks are drawn in groups of blocks, shaded by the share of attended pairs.
// @pre blocks >= 1, layers >= 1, layers_to has `blocks` entries, every curve layers + 1
std::string pattern_svg(const Pattern& pattern, const PatternPicture& picture,
                        const std::vector<CoverageCurve>& curves);

// The curves alone.
std::string coverage_svg(std::int64_t blocks, const std::vector<CoverageCurve>& curves);

}  // namespace powerprefill
