#include "report/log.hpp"

#include "base/say.hpp"

namespace powerprefill {

void Log::line(const std::string& text) const {
  if (active_) say("powerprefill: " + text + "\n");
}

}  // namespace powerprefill
