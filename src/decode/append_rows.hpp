// Decoded rows on their way into the cache file.
#pragma once

#include <cstdint>
#include <span>

#include "cache/writer.hpp"
#include "kv/past_blocks.hpp"
#include "mpi/communicator.hpp"

namespace powerprefill {

// Collective. Queues the rows [past.file_tokens(), tokens) of all layers: each rank has the heads
// that it computes (part_of(G)), rank 0 puts them together, behind the rows of the last block that
// are in the file. Returns when everything is written, not yet committed.
void append_decoded_rows(const mpi::Communicator& world, const PastBlocks& past,
                         std::int64_t tokens, CacheWriter& writer);

// Rank 0 only. Likewise the final hidden states, (tokens - past.file_tokens(), E).
void append_hidden_rows(const PastBlocks& past, std::span<const float> rows, CacheWriter& writer);

}  // namespace powerprefill
