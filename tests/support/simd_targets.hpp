// The instruction sets that this CPU has, one after the other.
#pragma once

#include <hwy/targets.h>

#include <cstdint>
#include <set>
#include <string>

#include "math/rows/row_ops.hpp"

namespace powerprefill {

// Calls body(name) with the Highway kernels of each set in use, best first, down to plain code.
// Returns the names.
template <typename Body>
std::set<std::string> for_each_simd_target(const Body& body) {
  const std::int64_t supported = hwy::SupportedTargets();
  const auto disable = [](std::int64_t targets) {
    hwy::DisableTargets(targets);
    hwy::GetChosenTarget().DeInit();  // found anew by the next call
  };
  std::set<std::string> seen;
  std::int64_t disabled = 0;
  // Lower bits are better instruction sets; the last one cannot be disabled.
  for (std::int64_t bit = 1; bit != 0 && bit <= supported && bit < (std::int64_t{1} << 61);
       bit *= 2) {
    if ((supported & bit) == 0) continue;
    if (seen.insert(simd_target()).second) body(simd_target());
    disabled |= bit;
    disable(disabled);
  }
  if (seen.insert(simd_target()).second) body(simd_target());
  disable(0);
  return seen;
}

}  // namespace powerprefill
