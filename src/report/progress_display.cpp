#include "report/progress_display.hpp"

#include <unistd.h>

#include <cstdio>
#include <string>

#include <fmt/format.h>

namespace powerprefill {

ProgressDisplay::ProgressDisplay(bool active) : active_(active), terminal_(isatty(2) != 0) {}

void ProgressDisplay::show(const Progress& progress) {
  if (!active_) return;
  const bool last = progress.layer == progress.layers;
  const double interval = terminal_ ? 0.1 : 10.0;  // seconds between two lines
  if (!last && last_shown_ >= 0 && progress.seconds - last_shown_ < interval) return;
  last_shown_ = progress.seconds;
  const double share = static_cast<double>(progress.layer) / static_cast<double>(progress.layers);
  const double left = progress.seconds / share - progress.seconds;
  const std::string text = fmt::format("layer {}/{}  {:.1f} s, about {:.1f} s left", progress.layer,
                                       progress.layers, progress.seconds, left);
  if (!terminal_) {
    fmt::print(stderr, "powerprefill: {}\n", text);
    return;
  }
  constexpr std::size_t width = 30;
  const auto filled = static_cast<std::size_t>(share * static_cast<double>(width));
  fmt::print(stderr, "\r[{}{}] {}\033[K{}", std::string(filled, '#'),
             std::string(width - filled, '.'), text, last ? "\n" : "");
  std::fflush(stderr);
}

}  // namespace powerprefill
