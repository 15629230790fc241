// The subcommands. Each file parses its options, calls the library and prints.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "powerprefill/session.hpp"

namespace powerprefill::cli {

// A subcommand added to the parser, and what to run when it was chosen. `run` gets nullptr for the
// session when the command needs none.
struct Command {
  CLI::App* app;
  bool needs_session;
  std::function<void(Session* session)> run;
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
