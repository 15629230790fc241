// Which attention pattern a prefill uses.
#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <optional>
#include <string>

#include "powerprefill/model.hpp"
#include "powerprefill/pattern.hpp"

namespace powerprefill::cli {

struct AttentionArguments {
  std::string pattern;  // empty: the checkpoint's own, else full
  std::optional<std::int64_t> block;
  std::optional<std::int64_t> window;
  std::optional<std::int64_t> sink;

  void add_to(CLI::App& app);

  struct Choice {
    Schedule schedule;
    std::string description;  // e.g. "power (block 256, window 5, sink 1)"
    std::string remark;       // what the user should know about the choice, or empty
  };
  // Options first, then the checkpoint's `power_attention`, then full. Throws Error(usage or input).
  Choice resolve(const ModelSummary& model) const;
};

}  // namespace powerprefill::cli
