// Says what a start waits for when it does not end.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace powerprefill::cli {

// A thread that prints once, to standard error, what was told last, unless the watch ends before
// its patience does. MPI waits in silence, for ever, for hosts that it cannot reach.
class StartWatch {
 public:
  // `speaks`: one process of each node does.
  StartWatch(double patience_seconds, bool speaks);
  StartWatch(const StartWatch&) = delete;
  StartWatch& operator=(const StartWatch&) = delete;
  ~StartWatch();

  // What is waited for from now on.
  void tell(const std::string& what);

 private:
  void run(double patience_seconds);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::string what_;
  bool over_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace powerprefill::cli
