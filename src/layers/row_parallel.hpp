// Single rows over all ranks: each rank computes some outputs, then everyone gets all of them.
#pragma once

#include <cstdint>
#include <span>

#include "base/part.hpp"
#include "base/thread_pool.hpp"
#include "math/linear/linear.hpp"
#include "mpi/communicator.hpp"

namespace powerprefill {

// `values` holds count x width numbers, of which this rank has computed those of part_of(count);
// afterwards every rank has all of them.
void gather_parts(const mpi::Communicator& comm, std::int64_t count, std::int64_t width,
                  std::span<float> values);

// y (outputs) = W x + bias, every rank computing a part of the outputs. Collective. No sum is
// split, so the bits do not depend on the number of ranks.
void apply_linear_row_split(const mpi::Communicator& comm, ThreadPool& pool, const Linear& linear,
                            const float* x, std::span<float> y);

}  // namespace powerprefill
