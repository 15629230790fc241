// Sliding window: the sink and the last `window` blocks (appendix D of the paper).
#include <algorithm>

#include "pattern/registry.hpp"

namespace powerprefill {

namespace {

class Sliding final : public Pattern {
 public:
  explicit Sliding(const PatternSpec& spec) : window_(spec.window), sink_(spec.sink) {}

  bool attends(std::int64_t query, std::int64_t key) const override {
    const std::int64_t d = query - key;
    return key >= 0 && d >= 0 && (key < sink_ || d < window_);
  }

  std::vector<std::int64_t> key_blocks(std::int64_t query) const override {
    std::vector<std::int64_t> keys;
    for (std::int64_t d = 0; d < window_ && d <= query; ++d) keys.push_back(query - d);
    for (std::int64_t key = std::min(sink_ - 1, keys.back() - 1); key >= 0; --key) {
      keys.push_back(key);
    }
    return keys;
  }

  std::int64_t sink() const override { return sink_; }

 private:
  std::int64_t window_;
  std::int64_t sink_;
};

}  // namespace

const PatternKind kSlidingPattern = {
    "sliding", true, true, [](const PatternSpec& spec) -> std::shared_ptr<const Pattern> {
      return std::make_shared<Sliding>(spec);
    }};

}  // namespace powerprefill
