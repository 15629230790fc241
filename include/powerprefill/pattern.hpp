// Block patterns: which key blocks a query block attends to, and the schedule of a whole model.
//
// Blocks are numbered from 0; with block size B, block i holds the tokens [i B, (i + 1) B). Inside
// an attended pair of blocks token causality still applies (a token sees itself and earlier ones).
// Source: PowerAttention (arXiv 2503.03588), Algorithm 1 and appendix D.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "powerprefill/error.hpp"

namespace powerprefill {

inline constexpr std::int64_t kLargestBlock = 65536;    // tokens
inline constexpr std::int64_t kMostCacheLayers = 9999;  // a cache file names them by four digits
inline constexpr std::int64_t kLargestDistance = (std::int64_t{1} << 31) - 1;  // in blocks

// What a user asks for: a pattern by name, and its parameters in blocks. A pattern ignores the
// parameters that it does not have.
struct PatternSpec {
  std::string name = "full";  // one of pattern_names()
  // A run takes up to kLargestDistance of each.
  std::int64_t window = 5;   // blocks at distance d < window are attended; at least 1
  std::int64_t sink = 1;     // the first `sink` blocks of the prompt are attended; at least 0
  std::int64_t stride = 32;  // stride: blocks at distances that are a multiple; at least 1
  std::vector<std::int64_t> distances = {};  // mask: the attended distances; ascending, 0 the first

  bool operator==(const PatternSpec&) const = default;
};

// The parameters that the paper uses for a pattern (appendix D), at about equal budget: power
// window 5 sink 1, sliding window 9 sink 1, stride window 6 stride 32 sink 1, dilated window 20; a
// mask has no sink. Throws Error(usage) for an unknown name.
PatternSpec default_spec(const std::string& name);

// "power (window 5, sink 1)": the name, and the parameters that the pattern has.
std::string to_text(const PatternSpec& spec);

// A pattern with its parameters fixed. Immutable, and a pure function of block numbers.
class Pattern {
 public:
  virtual ~Pattern() = default;

  // Whether query block `query` attends to key block `key`. False for key > query or key < 0.
  virtual bool attends(std::int64_t query, std::int64_t key) const = 0;

  // All attended key blocks of `query` in strictly descending order, `query` itself first. This is
  // the order in which attention merges them. Cost: O(length of the result), O(query) for patterns
  // that do not override it.
  virtual std::vector<std::int64_t> key_blocks(std::int64_t query) const;

  // The first `sink()` blocks are attended by every later block.
  virtual std::int64_t sink() const { return 0; }
};

// The names that make_pattern() knows.
std::vector<std::string> pattern_names();

// Throws Error(usage) for an unknown name or a parameter out of range.
std::shared_ptr<const Pattern> make_pattern(const PatternSpec& spec);

// The pattern of every layer of a model.
struct Schedule {
  std::int64_t block = 256;         // B, tokens per block
  std::vector<PatternSpec> layers;  // one per layer

  bool operator==(const Schedule&) const = default;
};

// {"pattern": "power", "window": 5, "sink": 1}. Only the parameters that a pattern has are written.
std::string to_json(const PatternSpec& spec);

// The inverse; parameters that are left out are default_spec()'s. Throws Error(cache) when the text
// is not such a pattern.
PatternSpec spec_from_json(const std::string& text);

// {"block": 256, "layers": [{"pattern": "power", "window": 5, "sink": 1}, ...]}; where that exceeds
// kLongestSchedule bytes, each pattern is named once, and a layer is a place in the list of them:
// {"block": 256, "patterns": [{"pattern": "mask", ...}, ...], "layers": [0, 0, 1, ...]}. Equal
// schedules have equal texts.
std::string to_json(const Schedule& schedule);
inline constexpr std::size_t kLongestSchedule = 64000;  // what an attribute of a cache file holds

// Throws Error(usage) for a schedule that no run takes: a block beyond kLargestBlock, parameters
// out of range, or a text longer than kLongestSchedule.
void check_schedule(const Schedule& schedule);

// The inverse. Throws Error(cache) when the text is not such a schedule.
Schedule schedule_from_json(const std::string& text);

}  // namespace powerprefill
