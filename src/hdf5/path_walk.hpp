// The way to an object of an HDF5 file, whoever reads its groups.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "hdf5/check.hpp"

namespace powerprefill::hdf5 {

struct PathSteps {
  std::function<void()> to_root;
  // Follows a link of the group that was reached: to an object of this file, or, for a soft link,
  // nowhere yet; then the path that it stands for is returned.
  std::function<std::optional<std::string>(const std::string& name)> follow;
};

// Goes along `path`, from the root and through soft links. Throws Error(context.code) when they
// lead in a circle.
void walk_path(const std::string& path, const PathSteps& steps, const Context& context);

}  // namespace powerprefill::hdf5
