// How much memory a process may still take on its node, and how much it takes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace powerprefill {

struct AvailableMemory {
  std::int64_t bytes = 0;
  // What sets the bound: "the node", or "the memory limit of 300 MiB of cgroup /job_7/step_0".
  std::string bound;
};

// The kernel's estimate for the node, or what is left in the narrowest of the control groups that
// this process is in, versions 1 and 2: of the group of /proc/self/cgroup, where Slurm's --mem and
// systemd put their limits, and of all above it. Pages of files count as free, since the kernel
// drops them when memory is asked for; shared memory does not. `root` is where / is, for tests.
//
// Source: Linux, Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
AvailableMemory available_memory(const std::filesystem::path& root = "/");

// Largest resident size of this process so far, shared memory included.
std::int64_t peak_resident_bytes();

// Its proportional set size now: pages shared by k processes count 1/k. 0 where the kernel does not
// tell.
std::int64_t proportional_set_bytes();

}  // namespace powerprefill
