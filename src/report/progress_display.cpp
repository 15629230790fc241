#include "report/progress_display.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <string>

#include "base/say.hpp"

namespace powerprefill {

ProgressDisplay::ProgressDisplay(bool active, Saves saves)
    : active_(active), saves_(saves), terminal_(isatty(2) != 0) {}

void ProgressDisplay::show(const Progress& progress) {
  if (!active_) return;
  const std::int64_t end = saves_ == Saves::cache ? progress.committed : progress.chunk_end;
  const bool last = progress.layer == progress.layers && end == progress.tokens;
  const double interval = terminal_ ? 0.1 : 10.0;  // seconds between two lines
  if (!last && last_shown_ >= 0 && progress.seconds - last_shown_ < interval) return;
  last_shown_ = progress.seconds;
  const double in_chunk =
      static_cast<double>(progress.layer) / static_cast<double>(progress.layers);
  const double in_flight = static_cast<double>(progress.chunk_end - progress.committed) * in_chunk;
  const double share =
      (static_cast<double>(progress.committed) + in_flight) / static_cast<double>(progress.tokens);
  const std::string tokens =
      saves_ == Saves::cache
          ? fmt::format("{}/{} tokens committed", progress.committed, progress.tokens)
          : fmt::format("{} tokens", progress.tokens);
  const std::string text =
      fmt::format("layer {}/{}, {}, {:.1f} s, about {:.1f} s left", progress.layer, progress.layers,
                  tokens, progress.seconds, progress.seconds_left);
  if (!terminal_) {
    say("powerprefill: " + text + "\n");
    return;
  }
  constexpr std::size_t width = 30;
  const auto filled = static_cast<std::size_t>(share * static_cast<double>(width));
  say(fmt::format("\r[{}{}] {}\033[K{}", std::string(filled, '#'), std::string(width - filled, '.'),
                  text, last ? "\n" : ""));
}

}  // namespace powerprefill
