#include "base/say.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

namespace powerprefill {

void say(std::string_view text) noexcept {
  while (!text.empty()) {
    const auto count = ::write(STDERR_FILENO, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) {  // as long as a reader that is alive may take
      pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
      constexpr int patience = 1000;  // milliseconds
      if (::poll(&ready, 1, patience) > 0) continue;
    }
    if (count <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

}  // namespace powerprefill
