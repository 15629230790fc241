// What most patterns are: a sink, and key blocks at certain distances.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "powerprefill/pattern.hpp"

namespace powerprefill {

// A pair is attended when the key block is one of the first `sink`, or at a distance that
// has_distance() accepts.
class DistancePattern : public Pattern {
 public:
  explicit DistancePattern(std::int64_t sink) : sink_(sink) {}

  bool attends(std::int64_t query, std::int64_t key) const final {
    return key >= 0 && key <= query && (key < sink_ || has_distance(query - key));
  }

  std::vector<std::int64_t> key_blocks(std::int64_t query) const final {
    std::vector<std::int64_t> keys;
    for (std::int64_t d = 0; d >= 0 && query - d >= sink_; d = next_distance(d)) {
      keys.push_back(query - d);
    }
    for (std::int64_t key = std::min(sink_ - 1, query); key >= 0; --key) keys.push_back(key);
    return keys;
  }

  std::int64_t sink() const final { return sink_; }

 protected:
  // Whether distance d >= 0 is attended; true for 0.
  virtual bool has_distance(std::int64_t d) const = 0;
  // The next attended distance beyond d, or -1 when there is none.
  virtual std::int64_t next_distance(std::int64_t d) const = 0;

 private:
  std::int64_t sink_;
};

}  // namespace powerprefill
