// Progress of a prefill: a line that is redrawn on a terminal, a few plain lines elsewhere.
#pragma once

#include "powerprefill/prefill.hpp"

namespace powerprefill {

class ProgressDisplay {
 public:
  // `active` is false on all ranks but one, and with --quiet.
  explicit ProgressDisplay(bool active);
  void show(const Progress& progress);

 private:
  bool active_;
  bool terminal_;
  double last_shown_ = -1;
};

}  // namespace powerprefill
