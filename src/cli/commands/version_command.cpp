#include <fmt/format.h>

#include "cli/commands.hpp"
#include "math/numerics.hpp"

namespace powerprefill::cli {

Command add_version(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("version", "Show the version and what results depend on");
  return {sub, Runs::alone, [](const Job*) {
            fmt::print("powerprefill {}\ncache format 1.0\nnumerics {}\n", POWERPREFILL_VERSION,
                       numerics_id(compute_for(ComputeType::automatic)));
          }};
}

}  // namespace powerprefill::cli
