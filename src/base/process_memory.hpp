// How much memory this process takes.
#pragma once

#include <cstdint>

namespace powerprefill {

// Largest resident size so far, shared memory included.
std::int64_t peak_resident_bytes();

// Proportional set size now: pages shared by k processes count 1/k. 0 where the kernel does not
// tell.
std::int64_t proportional_set_bytes();

}  // namespace powerprefill
