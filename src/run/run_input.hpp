// What a run over a prompt is given, checked.
#pragma once

#include <cstdint>
#include <span>

#include "model/config.hpp"
#include "mpi/communicator.hpp"
#include "powerprefill/run.hpp"

namespace powerprefill {

struct RunInput {
  std::span<const std::int32_t> tokens;
  const RunOptions& run;

  // What can be known to be wrong before the weights are loaded. Throws Error(usage or input).
  void check() const;
  // Collective. Throws an agreed Error(input) when the ranks were given different ones: from a mask
  // or a config.json that is not the same on all hosts.
  void require_same(const mpi::Communicator& world) const;
  // Throws Error(input or usage) for what does not fit the model.
  void check_for(const ModelConfig& config) const;
};

}  // namespace powerprefill
