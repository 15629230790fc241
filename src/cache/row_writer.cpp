#include "cache/row_writer.hpp"

#include <algorithm>
#include <utility>

#include "base/hash.hpp"
#include "base/start_thread.hpp"
#include "base/zones.hpp"

namespace powerprefill {

namespace {

// Hashed, then written, while it is still in the core's cache.
constexpr std::int64_t kHotBytes = std::int64_t{1} << 20;

}  // namespace

RowWriter::RowWriter(const FileHandle& file)
    : file_(file), thread_(start_thread([this] { run(); })) {}

RowWriter::~RowWriter() {
  // Rows that are still queued belong to no commit: nobody misses them.
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  thread_.join();
}

std::int64_t RowWriter::push(std::span<const RowJob> jobs) {
  std::int64_t ticket = 0;
  {
    const std::lock_guard lock(mutex_);
    queue_.insert(queue_.end(), jobs.begin(), jobs.end());
    pushed_ += static_cast<std::int64_t>(jobs.size());
    ticket = pushed_;
  }
  work_.notify_one();
  return ticket;
}

void RowWriter::wait_for(std::int64_t ticket) {
  std::unique_lock lock(mutex_);
  progress_.wait(lock, [&] { return done_ >= std::min(ticket, pushed_); });
  if (failure_) std::rethrow_exception(failure_);
}

std::vector<ChecksumRun> RowWriter::finish() {
  std::unique_lock lock(mutex_);
  progress_.wait(lock, [&] { return done_ == pushed_; });
  if (failure_) std::rethrow_exception(failure_);
  return std::exchange(runs_, {});
}

std::int64_t RowWriter::bytes_written() const {
  const std::lock_guard lock(mutex_);
  return bytes_written_;
}

double RowWriter::seconds() const {
  const std::lock_guard lock(mutex_);
  return seconds_;
}

void RowWriter::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    const RowJob job = queue_.front();
    queue_.pop_front();
    // After a failure jobs are dropped, yet counted: who waits for them is woken, and thrown it.
    if (!failure_) {
      lock.unlock();
      std::exception_ptr failure;
      try {
        write(job);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      failure_ = failure;
    }
    ++done_;
    progress_.notify_all();
  }
}

void RowWriter::write(const RowJob& job) {
  const double begin = seconds_now();
  ChecksumRun run{.column = job.column, .first_block = job.first_block, .last_rows = 0, .sums = {}};
  const auto block_bytes = static_cast<std::size_t>(job.block_bytes);
  const auto piece_bytes = block_bytes * static_cast<std::size_t>(std::max<std::int64_t>(
                                             1, kHotBytes / job.block_bytes));
  std::int64_t offset = job.offset;
  for (auto rest = job.data; !rest.empty();) {
    const auto piece = rest.first(std::min(rest.size(), piece_bytes));
    for (auto left = piece; !left.empty();) {
      const auto block = left.first(std::min(left.size(), block_bytes));
      run.sums.push_back(hash_of(block));
      run.last_rows = static_cast<std::int64_t>(block.size()) / job.row_bytes;
      left = left.subspan(block.size());
    }
    file_.write_at(piece, offset);
    offset += static_cast<std::int64_t>(piece.size());
    rest = rest.subspan(piece.size());
  }
  // The disk begins while the ranks still compute: a commit's sync has less to wait for.
  file_.start_sync(job.offset, static_cast<std::int64_t>(job.data.size()));
  const std::lock_guard lock(mutex_);
  if (!run.sums.empty()) runs_.push_back(std::move(run));
  bytes_written_ += static_cast<std::int64_t>(job.data.size());
  const double end = seconds_now();
  seconds_ += end - begin;
  if (row_ != nullptr) row_->add("write", begin, end);
}

}  // namespace powerprefill
