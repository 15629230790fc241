#include "run/run_input.hpp"

#include <fmt/format.h>

#include <cstddef>

#include "base/hash.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill {

void RunInput::check() const {
  if (tokens.empty()) {
    throw Error(ErrorCode::input, "the prompt is empty; give at least one token");
  }
  check_schedule(run.schedule);
}

void RunInput::require_same(const mpi::Communicator& world) const {
  world.require_same(
      ErrorCode::input,
      {{"attention", to_json(run.schedule), "use the same config.json and mask on all hosts"},
       {"prompt", hex_of(hash_of(std::as_bytes(tokens))), "give all ranks the same tokens"}});
}

void RunInput::check_for(const ModelConfig& config) const {
  require_tokens(config.vocabulary, tokens);
  if (static_cast<std::int64_t>(run.schedule.layers.size()) != config.layers) {
    throw Error(ErrorCode::usage, fmt::format("the schedule has {} layers, the model {}",
                                              run.schedule.layers.size(), config.layers));
  }
}

}  // namespace powerprefill
