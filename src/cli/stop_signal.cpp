#include "cli/stop_signal.hpp"

#include <csignal>

namespace powerprefill::cli {

namespace {

volatile std::sig_atomic_t requested = 0;

void remember(int) {
  requested = 1;
}

}  // namespace

void catch_stop_signal() {
  struct sigaction action {};
  action.sa_handler = remember;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGUSR1, &action, nullptr);
}

bool stop_requested() {
  return requested != 0;
}

}  // namespace powerprefill::cli
