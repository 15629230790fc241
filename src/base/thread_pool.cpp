#include "base/thread_pool.hpp"

#include <string>

#include "base/start_thread.hpp"
#include "base/zones.hpp"

namespace powerprefill {

ThreadPool::ThreadPool(int threads) {
  try {
    for (int thread = 1; thread < threads; ++thread) {
      workers_.push_back(start_thread([this, thread] { work(thread); }));
    }
  } catch (...) {
    stop();  // the destructor of an object that was not made does not run
    throw;
  }
}

void ThreadPool::set_trace(Trace* trace) {
  const std::lock_guard lock(mutex_);
  rows_.clear();
  for (int thread = 1; trace != nullptr && thread < threads(); ++thread) {
    rows_.push_back(&trace->add_row("thread " + std::to_string(thread)));
  }
}

ThreadPool::~ThreadPool() {
  stop();
}

void ThreadPool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  start_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(std::int64_t count, const std::function<void(std::int64_t, int)>& task,
                     const std::function<void()>& between) {
  if (count <= 0) return;
  {
    const std::lock_guard lock(mutex_);
    task_ = &task;
    count_ = count;
    next_.store(0);
    busy_ = static_cast<int>(workers_.size());
    failure_ = nullptr;
    ++generation_;
  }
  start_.notify_all();
  drain(0, between);
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [this] { return busy_ == 0; });
  if (failure_) std::rethrow_exception(failure_);
}

void ThreadPool::work(int thread) {
  std::uint64_t seen = 0;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      start_.wait(lock, [&] { return stopping_ || generation_ != seen; });
      if (stopping_) return;
      seen = generation_;
    }
    if (rows_.empty()) {
      drain(thread, {});
    } else {
      TraceRow& row = *rows_[static_cast<std::size_t>(thread - 1)];
      const char* phase = row.trace().phase();
      const double begin = seconds_now();
      drain(thread, {});
      row.add(phase, begin, seconds_now());
    }
    const std::lock_guard lock(mutex_);
    if (--busy_ == 0) finished_.notify_one();
  }
}

void ThreadPool::drain(int thread, const std::function<void()>& between) {
  try {
    for (;;) {
      const std::int64_t i = next_.fetch_add(1);
      if (i >= count_) return;
      (*task_)(i, thread);
      if (between) between();
    }
  } catch (...) {
    next_.store(count_);  // the others stop at their next task
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
  }
}

}  // namespace powerprefill
