// Starting a thread, with an error that says what to do when the system gives none.
#pragma once

#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "powerprefill/error.hpp"

namespace powerprefill {

// A thread that runs `body`. Throws Error(internal).
template <typename Body>
std::thread start_thread(Body&& body) {
  try {
    return std::thread(std::forward<Body>(body));
  } catch (const std::system_error& error) {
    throw Error(ErrorCode::internal,
                "cannot start a thread: " + error.code().message() +
                    "; take fewer --threads, or raise the limits of processes and memory (ulimit "
                    "-u, ulimit -v, the cgroup's pids.max)");
  }
}

}  // namespace powerprefill
