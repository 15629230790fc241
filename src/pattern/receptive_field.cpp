#include "pattern/receptive_field.hpp"

#include <algorithm>
#include <memory>

namespace powerprefill {

namespace {

// The blocks that are reached, in the order in which they were.
class Spread {
 public:
  explicit Spread(std::int64_t query) {
    field_.layers_to.assign(static_cast<std::size_t>(query) + 1, -1);
    field_.layers_to.back() = 0;
    field_.reached = {1};
    found_ = {query};
  }

  // One more layer of `pattern`. The first `expanded` blocks found have their keys under it
  // already. Returns how many blocks have them now.
  std::size_t step(const Pattern& pattern, std::size_t expanded) {
    const std::size_t before = found_.size();
    const auto layer = static_cast<std::int64_t>(field_.reached.size());
    for (std::size_t n = expanded; n < before && found_.size() < field_.layers_to.size(); ++n) {
      for (const std::int64_t key : pattern.key_blocks(found_[n])) {
        std::int64_t& layers = field_.layers_to[static_cast<std::size_t>(key)];
        if (layers >= 0) continue;
        layers = layer;
        found_.push_back(key);
      }
    }
    field_.reached.push_back(static_cast<std::int64_t>(found_.size()));
    return before;
  }

  ReceptiveField& field() { return field_; }

 private:
  ReceptiveField field_;
  std::vector<std::int64_t> found_;
};

}  // namespace

double ReceptiveField::covered(std::int64_t layers) const {
  if (query() == 0) return 1;
  const auto last = static_cast<std::int64_t>(reached.size()) - 1;
  const std::int64_t seen = reached[static_cast<std::size_t>(std::min(layers, last))] - 1;
  return static_cast<double>(seen) / static_cast<double>(query());
}

std::int64_t ReceptiveField::layers_to_cover() const {
  std::int64_t most = 0;
  for (const std::int64_t layers : layers_to) {
    if (layers < 0) return -1;
    most = std::max(most, layers);
  }
  return most;
}

std::vector<std::int64_t> ReceptiveField::unreached() const {
  std::vector<std::int64_t> blocks;
  for (std::size_t block = 0; block < layers_to.size(); ++block) {
    if (layers_to[block] < 0) blocks.push_back(static_cast<std::int64_t>(block));
  }
  return blocks;
}

ReceptiveField receptive_field(std::span<const PatternSpec> layers, std::int64_t query) {
  struct Kind {
    PatternSpec spec;
    std::shared_ptr<const Pattern> pattern;
    std::size_t expanded = 0;
  };
  std::vector<Kind> kinds;
  Spread spread(query);
  for (std::size_t n = layers.size(); n-- > 0;) {
    auto kind = std::find_if(kinds.begin(), kinds.end(),
                             [&](const Kind& known) { return known.spec == layers[n]; });
    if (kind == kinds.end()) kind = kinds.insert(kind, {layers[n], make_pattern(layers[n])});
    kind->expanded = spread.step(*kind->pattern, kind->expanded);
  }
  return std::move(spread.field());
}

ReceptiveField receptive_field(const Pattern& pattern, std::int64_t query) {
  Spread spread(query);
  std::vector<std::int64_t>& reached = spread.field().reached;
  std::size_t expanded = 0;
  do {
    expanded = spread.step(pattern, expanded);
  } while (reached.back() > reached[reached.size() - 2]);
  reached.pop_back();  // the step that reached nothing new
  return std::move(spread.field());
}

PairCount count_pairs(const Pattern& pattern, std::int64_t blocks) {
  PairCount count = {.blocks = blocks};
  for (std::int64_t query = 0; query < blocks; ++query) {
    count.pairs += static_cast<std::int64_t>(pattern.key_blocks(query).size());
  }
  return count;
}

}  // namespace powerprefill
