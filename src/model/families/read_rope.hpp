// The rotary position embedding in a config.json.
#pragma once

#include <cstdint>
#include <vector>

#include "json/json_fields.hpp"
#include "model/config.hpp"

namespace powerprefill {

// Reads `rope_theta` + `rope_scaling` or `rope_parameters`. `max_positions` stands in for an absent
// `original_max_position_embeddings`. Throws Error(input) for types and keys that are not
// supported, and adds to `notes` what is not used.
RopeParameters read_rope(const JsonFields& config, std::int64_t max_positions,
                         std::vector<ModelNote>& notes);

}  // namespace powerprefill
