// How a prompt is cut into chunks, and a chunk into the shares of the ranks. Pure.
#pragma once

#include <cstddef>
#include <cstdint>

#include "partition/partition.hpp"
#include "powerprefill/run.hpp"

namespace powerprefill {

// Of a layer's blocks of other ranks at most so many shares are held at a time.
inline constexpr std::size_t kSharesInFlight = 4;
// The past that a rank reads ahead of its use, in bytes.
inline constexpr std::int64_t kPastBudget = std::int64_t{96} << 20;

// Whether blocks are dealt out in a zigzag; automatic takes it when the schedule has a full layer.
bool takes_zigzag(BlockPartition partition, const Schedule& schedule);
// The split of a chunk over the ranks, with rank boundaries at tile boundaries where it can be.
Partition chunk_partition(TokenRange tokens, std::int64_t block, int ranks, bool zigzag);
// Where a chunk of at most `chunk_tokens` that begins anywhere ends: at a block, or at `end`.
std::int64_t end_of_chunk(std::int64_t begin, std::int64_t chunk_tokens, std::int64_t block,
                          std::int64_t end);

}  // namespace powerprefill
