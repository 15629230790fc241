// Full causal attention.
#include "pattern/registry.hpp"

namespace powerprefill {

namespace {

class Full final : public Pattern {
 public:
  bool attends(std::int64_t query, std::int64_t key) const override {
    return key >= 0 && key <= query;
  }
};

}  // namespace

const PatternKind kFullPattern = {
    "full", false, false, [](const PatternSpec&) -> std::shared_ptr<const Pattern> {
      return std::make_shared<Full>();
    }};

}  // namespace powerprefill
