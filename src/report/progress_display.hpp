// Progress of a prefill or a score: a line that is redrawn on a terminal, a few plain lines
// elsewhere.
#pragma once

#include "powerprefill/run.hpp"

namespace powerprefill {

class ProgressDisplay {
 public:
  enum class Saves { nothing, cache };

  // `active` is false on all ranks but one, and with --quiet.
  ProgressDisplay(bool active, Saves saves);
  void show(const Progress& progress);

 private:
  bool active_;
  Saves saves_;
  bool terminal_;
  double last_shown_ = -1;
};

}  // namespace powerprefill
