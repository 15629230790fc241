// Options that prefill and decode share.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "cli/launch.hpp"
#include "powerprefill/model.hpp"

namespace powerprefill::cli {

// --compute
void add_compute_option(CLI::App& app, ComputeType& compute, const std::string& description);

struct ModelArguments {
  std::string folder;
  int threads = 0;
  ComputeType compute = ComputeType::automatic;
  std::string weights_per = "node";
  std::string weights_store = "auto";
  bool allow_mixed_numerics = false;

  void add_to(CLI::App& app);
  // Collective. Fills in the defaults and checks the launch.
  ModelOptions resolve(const Job& job) const;
};

}  // namespace powerprefill::cli
