// Where the time of a rank goes: timers of the zones of powerprefill/zones.hpp.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <string_view>
#include <utility>

#include "base/trace.hpp"
#include "powerprefill/zones.hpp"

namespace powerprefill {

// Seconds per zone of one rank, and the row of its main thread in a trace, if there is one.
struct ZoneSeconds : std::array<double, kZones> {
  TraceRow* row = nullptr;
};

inline double seconds_now() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

// Adds the time of its own life to one zone. Zones do not nest: an inner timer's time would count
// twice.
class ZoneTimer {
 public:
  ZoneTimer(ZoneSeconds& seconds, Zone zone)
      : slot_(seconds[static_cast<std::size_t>(zone)]),
        row_(seconds.row),
        name_(name_of(zone)),
        begin_(seconds_now()) {
    if (row_ != nullptr) row_->trace().set_phase(name_.data());
  }
  ~ZoneTimer() {
    const double end = seconds_now();
    slot_ += end - begin_;
    if (row_ != nullptr) row_->add(name_, begin_, end);
  }
  ZoneTimer(const ZoneTimer&) = delete;
  ZoneTimer& operator=(const ZoneTimer&) = delete;

 private:
  double& slot_;
  TraceRow* row_;
  std::string_view name_;
  double begin_;
};

}  // namespace powerprefill
