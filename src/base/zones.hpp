// Where the time of a rank goes: a closed list of zones, timed on the rank's main thread.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <string_view>
#include <utility>

namespace powerprefill {

enum class Zone {
  load_weights,
  create_cache,
  embed,
  norm,
  qkv,
  rope,
  attention,
  exchange_wait,
  past_wait,
  attention_out,
  mlp,
  logits,
  cache_wait,
  commit,
  count
};

inline constexpr std::size_t kZones = static_cast<std::size_t>(Zone::count);

constexpr std::string_view name_of(Zone zone) {
  constexpr std::array<std::string_view, kZones> names = {
      "load_weights",  "create_cache", "embed",         "norm", "qkv",    "rope",       "attention",
      "exchange_wait", "past_wait",    "attention_out", "mlp",  "logits", "cache_wait", "commit"};
  return names[static_cast<std::size_t>(zone)];
}

// Seconds per zone of one rank.
using ZoneSeconds = std::array<double, kZones>;

inline double seconds_now() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

// Adds the time of its own life to one zone. Zones do not nest: an inner timer's time would count
// twice.
class ZoneTimer {
 public:
  ZoneTimer(ZoneSeconds& seconds, Zone zone)
      : slot_(seconds[static_cast<std::size_t>(zone)]), begin_(seconds_now()) {}
  ~ZoneTimer() { slot_ += seconds_now() - begin_; }
  ZoneTimer(const ZoneTimer&) = delete;
  ZoneTimer& operator=(const ZoneTimer&) = delete;

 private:
  double& slot_;
  double begin_;
};

}  // namespace powerprefill
