#include "cli/start_watch.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <chrono>

#include "base/say.hpp"
#include "base/start_thread.hpp"
#include "cli/launch.hpp"

namespace powerprefill::cli {

StartWatch::StartWatch(double patience_seconds, bool speaks) {
  if (speaks) thread_ = start_thread([this, patience_seconds] { run(patience_seconds); });
}

StartWatch::~StartWatch() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void StartWatch::tell(const std::string& what) {
  const std::lock_guard lock(mutex_);
  what_ = what;
}

void StartWatch::run(double patience_seconds) {
  std::unique_lock lock(mutex_);
  const bool ended = wake_.wait_for(lock, std::chrono::duration<double>(patience_seconds),
                                    [this] { return over_; });
  if (ended) return;
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  const std::string text = fmt::format(
      "powerprefill: rank {} of {} on host {} has waited {:.0f} s for the job to start: {}; if all "
      "ranks are there, they do not reach each other: are hosts down, or do they have an interface "
      "of the same address (docker0, virbr0)? try mpirun --mca btl_tcp_if_include eth0 --mca "
      "oob_tcp_if_include eth0, with the interface that connects them\n",
      launched_rank(), launched_ranks(), host.data(), patience_seconds, what_);
  say(text);
}

}  // namespace powerprefill::cli
