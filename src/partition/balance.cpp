#include "partition/balance.hpp"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "partition/exchange_plan.hpp"

namespace powerprefill {

namespace {

using Keys = std::vector<std::vector<std::int64_t>>;  // of every query block

// Each rank's key blocks, every one at the first query of the rank that needs it. An exchange plan
// depends on nothing else of a pattern, and is made faster from this.
class FirstNeeds final : public Pattern {
 public:
  FirstNeeds(Keys keys, std::int64_t sink) : keys_(std::move(keys)), sink_(sink) {}

  bool attends(std::int64_t query, std::int64_t key) const override {
    if (query < 0 || query >= static_cast<std::int64_t>(keys_.size())) return false;
    const auto& keys = keys_[static_cast<std::size_t>(query)];
    return std::find(keys.begin(), keys.end(), key) != keys.end();
  }
  std::vector<std::int64_t> key_blocks(std::int64_t query) const override {
    return keys_[static_cast<std::size_t>(query)];
  }
  std::int64_t sink() const override { return sink_; }

 private:
  Keys keys_;
  std::int64_t sink_;
};

std::int64_t largest(const std::vector<std::int64_t>& values) {
  return *std::max_element(values.begin(), values.end());
}

std::int64_t sum(const std::vector<std::int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), std::int64_t{0});
}

}  // namespace

double Balance::max_over_mean() const {
  const double mean = static_cast<double>(sum(pairs)) / static_cast<double>(pairs.size());
  return static_cast<double>(largest(pairs)) / mean;
}

std::int64_t Balance::max_received() const {
  return largest(received);
}
std::int64_t Balance::total_received() const {
  return sum(received);
}
std::int64_t Balance::max_partners() const {
  return largest(partners);
}

Balance balance_of(const Pattern& pattern, const Partition& partition) {
  Balance balance;
  Keys first_needs(static_cast<std::size_t>(partition.end_block()));
  for (int rank = 0; rank < partition.ranks(); ++rank) {
    std::int64_t pairs = 0;
    std::vector<bool> known(first_needs.size(), false);
    for (const BlockRange& range : partition.ranges_of(rank)) {
      for (std::int64_t query = range.first.value; query < range.end(); ++query) {
        for (const std::int64_t key : pattern.key_blocks(query)) {
          ++pairs;
          if (known[static_cast<std::size_t>(key)]) continue;
          known[static_cast<std::size_t>(key)] = true;
          first_needs[static_cast<std::size_t>(query)].push_back(key);
        }
      }
    }
    balance.pairs.push_back(pairs);
  }

  const FirstNeeds needs(std::move(first_needs), pattern.sink());
  for (int rank = 0; rank < partition.ranks(); ++rank) {
    const ExchangePlan plan = make_exchange_plan(needs, partition, rank);
    std::set<int> partners;
    for (const Share& share : plan.receives) partners.insert(share.peer);
    for (const SinkTree& tree : plan.sinks) {
      if (tree.parent >= 0) partners.insert(tree.parent);
    }
    balance.received.push_back(plan.received_blocks());
    balance.partners.push_back(static_cast<std::int64_t>(partners.size()));
  }
  return balance;
}

}  // namespace powerprefill
