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
  if (kv_dtype != "auto" && !dtype_from_name(kv_dtype)) {
    throw Error(ErrorCode::usage,
                fmt::format("unknown --kv-dtype '{}'; choose auto, f32, bf16 or f16", kv_dtype));
  }
  if (partition != "auto" && partition != "contiguous" && partition != "zigzag") {
    throw Error(
        ErrorCode::usage,
        fmt::format("unknown --partition '{}'; choose auto, contiguous or zigzag", partition));
  }
  check_schedule(schedule);
}

void RunInput::require_same(const mpi::Communicator& world) const {
  world.require_same(
      ErrorCode::input,
      {{"attention", to_json(schedule), "use the same config.json and mask on all hosts"},
       {"prompt", hex_of(hash_of(std::as_bytes(tokens))), "give all ranks the same tokens"}});
}

void RunInput::check_for(const ModelConfig& config) const {
  require_tokens(config.vocabulary, tokens);
  if (static_cast<std::int64_t>(schedule.layers.size()) != config.layers) {
    throw Error(ErrorCode::usage, fmt::format("the schedule has {} layers, the model {}",
                                              schedule.layers.size(), config.layers));
  }
}

KvShape RunInput::kv_shape(const LoadedModel& model) const {
  return {schedule.block, model.config.kv_heads, model.config.head_dim,
          *dtype_from_name(kv_dtype == "auto" ? name_of(model.compute) : kv_dtype)};
}

}  // namespace powerprefill
