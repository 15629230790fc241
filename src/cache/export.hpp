// A cache file as safetensors, for programs that do not read HDF5.
#pragma once

#include <cstdint>

#include "cache/reader.hpp"
#include "files/output_file.hpp"

namespace powerprefill {

// Writes the committed rows, each block checked: `tokens` I32 (n), `layers.I.key` and
// `layers.I.value` (n, G, D) in the cache's dtype, `logits` F32 (V), `hidden` F32 (E), `hidden_all`
// F32 (n, E) if the cache has it; `__metadata__` holds the attributes as texts. Commits `file`.
// Throws Error: cache for damage; storage. Returns the bytes written.
std::int64_t export_safetensors(const CacheReader& cache, OutputFile& file);

}  // namespace powerprefill
