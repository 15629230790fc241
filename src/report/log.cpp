#include "report/log.hpp"

#include <fmt/format.h>

#include <cstdio>

namespace powerprefill {

void Log::line(const std::string& text) const {
  if (active_) fmt::print(stderr, "powerprefill: {}\n", text);
}

}  // namespace powerprefill
