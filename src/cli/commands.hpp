// The subcommands. Each file parses its options, calls the library and prints.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/launch.hpp"

namespace powerprefill::cli {

// Which ranks run a subcommand.
enum class Runs {
  alone,    // rank 0, without MPI, which a script of the launcher may start once only
  shared,   // all ranks of a job of several; one rank without MPI
  as_a_job  // all ranks, always with MPI
};

// A subcommand added to the parser, and what to run when it was chosen. `run` gets nullptr for the
// job when MPI was not started.
struct Command {
  CLI::App* app;
  Runs runs;
  std::function<void(const Job* job)> run;
};

Command add_prefill(CLI::App& app);
Command add_decode(CLI::App& app);
Command add_score(CLI::App& app);
Command add_inspect(CLI::App& app);
Command add_verify(CLI::App& app);
Command add_export(CLI::App& app);
Command add_plan(CLI::App& app);
Command add_pattern(CLI::App& app);
Command add_doctor(CLI::App& app);
Command add_version(CLI::App& app);

}  // namespace powerprefill::cli
