#include <fmt/format.h>

#include "cli/commands.hpp"
#include "math/numerics.hpp"

namespace powerprefill::cli {

Command add_version(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("version", "Show the version and what results depend on");
  return {sub, Runs::alone, [](const Job*) {
            fmt::print("powerprefill {}\ncache format 1.0\n", POWERPREFILL_VERSION);
            const Compute best = compute_from_name("auto");
            fmt::print("numerics {}\n", numerics_id(best));
            if (best != Compute::f32) fmt::print("numerics {}\n", numerics_id(Compute::f32));
          }};
}

}  // namespace powerprefill::cli
