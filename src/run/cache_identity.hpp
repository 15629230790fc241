// What a cache file must have in common with a model and a run before it is used.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "cache/format/header.hpp"
#include "cache/reader.hpp"
#include "powerprefill/pattern.hpp"
#include "run/model_state.hpp"

namespace powerprefill {

// The header of a file that this model writes; without generation and capacity.
CacheHeader header_for(const Model::State& model, const Schedule& schedule, DType dtype);

// Throw Error(cache) naming the first field that differs, with both values.
//
// The cache was made by this model: weights (once they are loaded), config, rotary embedding,
// tokenizer.
void require_same_model(const std::filesystem::path& path, const CacheHeader& cache,
                        const CacheHeader& model);
// New rows may stand beside those of the cache: the same schedule, block, dtype and compute type,
// and, unless `allow_mixed`, the same numerics id.
void require_same_run(const std::filesystem::path& path, const CacheHeader& cache,
                      const CacheHeader& run, bool allow_mixed);

// Length of the longest common beginning.
std::int64_t common_tokens(std::span<const std::int32_t> a, std::span<const std::int32_t> b);

}  // namespace powerprefill
