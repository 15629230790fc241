#include "base/memory.hpp"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <string_view>
#include <vector>

namespace powerprefill {

namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kUnlimited = std::numeric_limits<std::int64_t>::max();
// Version 1 writes "no limit" as the largest number of whole pages.
constexpr std::int64_t kLargestLimit = std::int64_t{1} << 60;

// The two versions keep the same numbers under different names.
struct Version {
  std::vector<const char*> limits;
  const char* usage;
  std::vector<std::string> reclaimable;  // entries of memory.stat
};

const Version& version_1() {
  static const Version names = {{"memory.limit_in_bytes"},
                                "memory.usage_in_bytes",
                                {"total_active_file", "total_inactive_file"}};
  return names;
}

// memory.high is where the kernel begins to throttle.
const Version& version_2() {
  static const Version names = {{"memory.max", "memory.high"},
                                "memory.current",
                                {"active_file", "inactive_file", "slab_reclaimable"}};
  return names;
}

// The number in a file; `otherwise` when there is none ("max").
std::int64_t number_in(const fs::path& path, std::int64_t otherwise) {
  std::ifstream file(path);
  std::int64_t value = 0;
  return file >> value ? value : otherwise;
}

// The sum of some entries of a file of "name number" lines.
std::int64_t sum_of(const fs::path& path, const std::vector<std::string>& names) {
  std::int64_t sum = 0;
  std::ifstream file(path);
  std::string name;
  for (std::int64_t value = 0; file >> name >> value;) {
    if (std::find(names.begin(), names.end(), name) != names.end()) sum += value;
  }
  return sum;
}

// A hierarchy of control groups that accounts for memory, and where this process is in it.
struct Hierarchy {
  const Version& version;
  std::string group;  // as /proc/self/cgroup has it
  fs::path mount;
  std::string mounted_group;  // that the mount shows as its root
};

bool has_word(const std::string& list, std::string_view word) {
  std::istringstream words(list);
  for (std::string one; std::getline(words, one, ',');) {
    if (one == word) return true;
  }
  return false;
}

// The mount of a hierarchy by /proc/self/mountinfo: "... ROOT POINT OPTIONS... - TYPE SOURCE
// OPTIONS".
void find_mount(const fs::path& root, std::string_view type, std::string_view option,
                Hierarchy& hierarchy) {
  std::ifstream file(root / "proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream before(line.substr(0, dash));
    std::istringstream after(line.substr(dash + 3));
    std::string number;
    std::string parent;
    std::string device;
    std::string shown;
    std::string point;
    std::string found;
    std::string source;
    std::string options;
    before >> number >> parent >> device >> shown >> point;
    after >> found >> source >> options;
    if (found != type || (!option.empty() && !has_word(options, option))) continue;
    hierarchy.mounted_group = shown;
    hierarchy.mount = root / fs::path(point).relative_path();
    return;
  }
}

std::vector<Hierarchy> hierarchies(const fs::path& root) {
  std::vector<Hierarchy> all;
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "4:memory,cpu:/group", or "0::/group"
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      all.push_back({version_2(), group, {}, {}});
      find_mount(root, "cgroup2", "", all.back());
    } else if (has_word(controllers, "memory")) {
      all.push_back({version_1(), group, {}, {}});
      find_mount(root, "cgroup", "memory", all.back());
    }
  }
  return all;
}

// The group below the mount's root. A group outside of what the mount shows, as in a container
// without a namespace of its own, leaves that root alone to be looked at.
fs::path below_mount(const Hierarchy& hierarchy) {
  const std::string& shown = hierarchy.mounted_group;
  if (shown == "/") return fs::path(hierarchy.group).relative_path();
  if (!hierarchy.group.starts_with(shown)) return {};
  return fs::path(hierarchy.group.substr(shown.size())).relative_path();
}

void narrow(const Version& version, const fs::path& folder, const std::string& name,
            AvailableMemory& memory) {
  std::int64_t limit = kUnlimited;
  for (const char* file : version.limits) limit = std::min(limit, number_in(folder / file, limit));
  if (limit >= kLargestLimit) return;
  const std::int64_t used =
      number_in(folder / version.usage, 0) - sum_of(folder / "memory.stat", version.reclaimable);
  const std::int64_t left = std::max<std::int64_t>(0, limit - std::max<std::int64_t>(0, used));
  if (left >= memory.bytes) return;
  memory = {left, fmt::format("the memory limit of {} MiB of cgroup {}", limit >> 20, name)};
}

}  // namespace

AvailableMemory available_memory(const fs::path& root) {
  AvailableMemory memory = {kUnlimited, "the node"};
  std::ifstream meminfo(root / "proc/meminfo");
  for (std::string key; meminfo >> key;) {
    std::int64_t kibibytes = 0;
    if (key == "MemAvailable:" && meminfo >> kibibytes) memory.bytes = kibibytes * 1024;
  }
  for (const Hierarchy& hierarchy : hierarchies(root)) {
    if (hierarchy.mount.empty()) continue;
    fs::path group = below_mount(hierarchy);
    while (true) {
      narrow(hierarchy.version, hierarchy.mount / group, fmt::format("/{}", group.string()),
             memory);
      if (group.empty()) break;
      group = group.parent_path();
    }
  }
  return memory;
}

std::int64_t peak_resident_bytes() {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

std::int64_t proportional_set_bytes() {
  std::ifstream file("/proc/self/smaps_rollup");
  for (std::string word; file >> word;) {
    std::int64_t kibibytes = 0;
    if (word == "Pss:" && file >> kibibytes) return kibibytes * 1024;
  }
  return 0;
}

}  // namespace powerprefill
