#include "report/log.hpp"

#include <cstdio>

#include <fmt/format.h>

namespace powerprefill {

void Log::line(const std::string& text) const {
  if (active_) fmt::print(stderr, "powerprefill: {}\n", text);
}

}  // namespace powerprefill
