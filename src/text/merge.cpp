#include "text/merge.hpp"

#include <algorithm>
#include <bit>

#include "base/checked.hpp"

namespace powerprefill::text {

namespace {

std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
}

constexpr std::int32_t kGone = -1;

// A heap of the standard library has the greatest on top.
constexpr auto kLater = [](const auto& a, const auto& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
};

}  // namespace

MergeTable::MergeTable(std::size_t count) : slots_(std::bit_ceil(2 * count + 2)) {}

std::size_t MergeTable::slot_of(std::uint64_t pair) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = (pair * 0x9E3779B97F4A7C15U >> 20) & mask;
  while (slots_[slot].pair != kEmpty && slots_[slot].pair != pair) slot = (slot + 1) & mask;
  return slot;
}

void MergeTable::set(std::int32_t left, std::int32_t right, Merge merge) {
  const std::uint64_t pair = pair_of(left, right);
  slots_[slot_of(pair)] = {pair, merge};
}

const MergeTable::Merge* MergeTable::find(std::int32_t left, std::int32_t right) const {
  const std::uint64_t pair = pair_of(left, right);
  const Slot& slot = slots_[slot_of(pair)];
  return slot.pair == pair ? &slot.merge : nullptr;
}

void Merger::offer(const MergeTable& merges, std::int32_t left, bool heap) {
  const Symbol& symbol = symbols_[left];
  if (symbol.next < 0) return;
  const MergeTable::Merge* merge = merges.find(symbol.id, symbols_[symbol.next].id);
  if (merge == nullptr) return;
  heap_.push_back({merge->rank, left, merge->id});
  if (heap) std::push_heap(heap_.begin(), heap_.end(), kLater);
}

void Merger::run(const MergeTable& merges, std::vector<std::int32_t>& ids) {
  const auto count = checked_cast<std::int32_t>(ids.size());
  symbols_.clear();
  heap_.clear();
  for (std::int32_t i = 0; i < count; ++i) {
    symbols_.push_back({ids[i], i - 1, i + 1 < count ? i + 1 : -1});
  }
  for (std::int32_t i = 0; i < count; ++i) offer(merges, i, false);
  if (heap_.empty()) return;
  std::make_heap(heap_.begin(), heap_.end(), kLater);
  while (!heap_.empty()) {
    const Candidate best = heap_.front();
    std::pop_heap(heap_.begin(), heap_.end(), kLater);
    heap_.pop_back();
    Symbol& left = symbols_[best.position];
    if (left.id == kGone || left.next < 0) continue;
    Symbol& right = symbols_[left.next];
    // The neighbours may have changed since; what they merge into now decides, as in the reference.
    const MergeTable::Merge* merge = merges.find(left.id, right.id);
    if (merge == nullptr || merge->id != best.id) continue;
    left.id = best.id;
    left.next = right.next;
    right.id = kGone;
    if (left.next >= 0) symbols_[left.next].previous = best.position;
    if (left.previous >= 0) offer(merges, left.previous, true);
    offer(merges, best.position, true);
  }
  ids.clear();
  for (std::int32_t i = 0; i >= 0; i = symbols_[i].next) ids.push_back(symbols_[i].id);
}

}  // namespace powerprefill::text
