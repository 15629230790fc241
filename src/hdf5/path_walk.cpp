#include "hdf5/path_walk.hpp"

#include <fmt/format.h>

namespace powerprefill::hdf5 {

namespace {

constexpr int kMostLinks = 16;

}  // namespace

void walk_path(const std::string& path, const PathSteps& steps, const Context& context) {
  steps.to_root();
  std::string rest = path;
  std::string above;  // the group that `rest` starts from
  for (int links = 0;;) {
    rest.erase(0, rest.find_first_not_of('/'));
    if (rest.empty()) return;
    const std::string name = rest.substr(0, rest.find('/'));
    rest.erase(0, name.size());
    const std::optional<std::string> target = steps.follow(name);
    if (!target) {
      above += "/" + name;
      continue;
    }
    if (++links > kMostLinks) {
      throw Error(context.code,
                  fmt::format("{}: the links to {} lead in a circle", context.path.string(), path));
    }
    rest = (target->starts_with('/') ? "" : above + "/") + *target + rest;
    steps.to_root();
    above.clear();
  }
}

}  // namespace powerprefill::hdf5
