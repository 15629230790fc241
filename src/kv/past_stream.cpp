#include "kv/past_stream.hpp"

#include <algorithm>

#include "base/start_thread.hpp"
#include "base/zones.hpp"

namespace powerprefill {

namespace {

std::int64_t slots_within(std::int64_t budget, const KvShape& shape, std::int64_t most_blocks) {
  // Whatever the budget, a block can be read while others are in use.
  constexpr std::int64_t fewest = 4;
  return std::min(most_blocks, std::max(fewest, budget / (2 * shape.block_bytes())));
}

}  // namespace

PastStream::PastStream(const PastSource& past, const KvShape& shape, std::int64_t past_blocks,
                       std::int64_t most_blocks, std::int64_t budget, TraceRow* row)
    : past_(past),
      shape_(shape),
      slots_(shape, slots_within(budget, shape, most_blocks)),
      views_(static_cast<std::size_t>(past_blocks)),
      row_(row) {
  const std::int64_t slots = slots_.bytes() / (2 * shape.block_bytes());
  for (std::int64_t slot = 0; slot < slots; ++slot) free_.push_back(slot);
  thread_ = start_thread([this] { run(); });
}

PastStream::~PastStream() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void PastStream::begin(std::int64_t layer, const std::vector<std::int64_t>& blocks) {
  std::unique_lock lock(mutex_);
  wanted_ = nullptr;
  // A block in flight, of the layer before, is still being written to its slot.
  wake_.wait(lock, [&] { return !reading_; });
  for (const Read& read : read_) free_.push_back(read.slot);
  read_.clear();
  for (const Read& read : held_) {
    views_[static_cast<std::size_t>(read.block)] = {};
    free_.push_back(read.slot);
  }
  held_.clear();
  wanted_ = &blocks;
  next_ = 0;
  layer_ = layer;
  lock.unlock();
  wake_.notify_all();
}

bool PastStream::poll() {
  const std::lock_guard lock(mutex_);
  // Before what was read is shown: the last of it may be the block that failed.
  if (failure_) std::rethrow_exception(failure_);
  if (read_.empty()) return false;
  for (const Read& read : read_) {
    views_[static_cast<std::size_t>(read.block)] = slots_.view(read.slot);
    held_.push_back(read);
    bytes_read_ += 2 * shape_.block_bytes();
  }
  read_.clear();
  return true;
}

void PastStream::release_above(std::int64_t block) {
  // Without the lock, since the main thread alone has held_: the usual call changes nothing.
  if (held_.empty() || held_.front().block <= block) return;
  {
    const std::lock_guard lock(mutex_);
    while (!held_.empty() && held_.front().block > block) {
      views_[static_cast<std::size_t>(held_.front().block)] = {};
      free_.push_back(held_.front().slot);
      held_.pop_front();
    }
  }
  wake_.notify_all();
}

void PastStream::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] {
      return stopping_ ||
             (wanted_ != nullptr && next_ < wanted_->size() && !free_.empty() && !failure_);
    });
    if (stopping_) return;
    const Read read = {(*wanted_)[next_++], free_.back()};
    free_.pop_back();
    const std::int64_t layer = layer_;
    reading_ = true;
    // The disk and the checksum take long: poll() must not wait for them.
    lock.unlock();
    std::exception_ptr failure;
    const double begin = seconds_now();
    try {
      const KvSpan slot = slots_.span(read.slot, 1);
      past_.read_block(layer, KvPart::key, read.block, slot.key);
      past_.read_block(layer, KvPart::value, read.block, slot.value);
    } catch (...) {
      failure = std::current_exception();
    }
    if (row_ != nullptr) row_->add("read", begin, seconds_now());
    lock.lock();
    reading_ = false;
    failure_ = failure;
    read_.push_back(read);
    wake_.notify_all();
  }
}

}  // namespace powerprefill
