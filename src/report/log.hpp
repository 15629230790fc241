// What the user is told while a job runs. Results go to stdout, everything here to stderr, and only
// on rank 0.
#pragma once

#include <string>

namespace powerprefill {

class Log {
 public:
  Log(bool is_root, bool quiet) : active_(is_root && !quiet) {}

  void line(const std::string& text) const;
  // What the user may want to change.
  void note(const std::string& text) const { line("note: " + text); }
  bool is_active() const noexcept { return active_; }

 private:
  bool active_;
};

}  // namespace powerprefill
