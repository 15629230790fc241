// Which attention pattern each layer uses.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mpi/communicator.hpp"
#include "powerprefill/model.hpp"
#include "powerprefill/pattern.hpp"
#include "powerprefill/run.hpp"

namespace powerprefill::cli {

// --attention and the parameters of a pattern.
struct PatternArguments {
  std::string name;  // empty: not given; "mask:FILE" for a mask
  std::optional<std::int64_t> window;
  std::optional<std::int64_t> sink;
  std::optional<std::int64_t> stride;

  void add_to(CLI::App& app, const std::string& what);
  // Collective: rank 0 reads the file of a mask, the others get a copy; else each rank that
  // resolves reads it. Throws agreed Errors.
  void share_mask(const mpi::Communicator& world);
  // `base` with the parameters that were given. Throws Error(usage, or input for a mask file).
  PatternSpec resolve(PatternSpec base) const;

 private:
  std::optional<std::vector<std::int32_t>> distances_;
};

// The FILE of "mask:FILE"; empty for every other pattern.
std::string mask_file_of(const std::string& name);

// --partition and --kv-dtype.
void add_layout_options(CLI::App& app, RunOptions& run);

struct AttentionArguments {
  PatternArguments pattern;
  std::optional<std::int64_t> block;
  std::vector<std::int64_t> full_layers;
  std::string full_per;  // "2/7": the first 2 of every 7 layers

  void add_to(CLI::App& app);

  struct Choice {
    Schedule schedule;
    std::string description;  // e.g. "power (window 5, sink 1), block 256, full layers 0, 1, 7, 8"
    std::string remark;       // what the user should know about the choice, or empty
  };
  // Options first, then the checkpoint's `power_attention`, then full. Throws Error(usage or
  // input).
  Choice resolve(const ModelSummary& model) const;
};

}  // namespace powerprefill::cli
