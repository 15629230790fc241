// The worker threads of one rank.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/trace.hpp"

namespace powerprefill {

// Runs numbered tasks on `threads` threads, the caller being thread 0. Tasks are handed out in
// order as threads become free, so which thread runs a task is not fixed: a task must not depend on
// it. Every task has to be a pure function of its number for results to be reproducible.
class ThreadPool {
 public:
  // Throws Error(internal) when the system gives no thread.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // From now on the threads other than the caller have rows in `trace`, which outlives the next
  // call; nullptr: no longer. Call while nothing runs.
  void set_trace(Trace* trace);

  int threads() const noexcept { return static_cast<int>(workers_.size()) + 1; }

  // Runs task(i, thread) for all i in [0, count) and returns when all are done. The first exception
  // thrown by a task is rethrown. `between`, if given, is called by thread 0 after each of its
  // tasks: this is where the thread that owns MPI makes communication progress. Not reentrant.
  void run(std::int64_t count, const std::function<void(std::int64_t, int)>& task,
           const std::function<void()>& between = {});

 private:
  void stop();
  void work(int thread);
  void drain(int thread, const std::function<void()>& between);

  std::vector<TraceRow*> rows_;  // by worker; empty without a trace
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable start_;
  std::condition_variable finished_;
  const std::function<void(std::int64_t, int)>* task_ = nullptr;
  std::atomic<std::int64_t> next_{0};
  std::int64_t count_ = 0;
  std::uint64_t generation_ = 0;
  int busy_ = 0;
  bool stopping_ = false;
  std::exception_ptr failure_;
};

}  // namespace powerprefill
