// Who did what when on one rank, for a picture of a run. Off unless asked for.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace powerprefill {

class Trace;

// What one thread did, in the order of its ends. One thread at a time adds to a row.
class TraceRow {
 public:
  TraceRow(Trace& trace, std::string name) : trace_(trace), name_(std::move(name)) {}

  // `what` lives as long as the program. Times as of seconds_now().
  void add(std::string_view what, double begin, double end) {
    events_.push_back({what, begin, end});
  }
  Trace& trace() { return trace_; }

 private:
  friend class Trace;
  struct Event {
    std::string_view what;
    double begin;
    double end;
  };
  Trace& trace_;
  std::string name_;
  std::vector<Event> events_;
};

class Trace {
 public:
  // A new row; stays where it is. Thread-safe.
  TraceRow& add_row(const std::string& name);

  // What the rank's main thread is at: the name for the work of its helpers.
  void set_phase(const char* phase) { phase_.store(phase, std::memory_order_relaxed); }
  const char* phase() const { return phase_.load(std::memory_order_relaxed); }

  // The events as objects of Chrome's trace format, separated by commas: process `rank`, a thread
  // for each row, microseconds since `start`. Source: the Trace Event Format, "complete events".
  std::string to_json(int rank, double start) const;

 private:
  mutable std::mutex mutex_;
  std::deque<TraceRow> rows_;
  std::atomic<const char*> phase_{"start"};
};

}  // namespace powerprefill
