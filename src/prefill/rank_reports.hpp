// Collecting what each rank did.
#pragma once

#include <vector>

#include "mpi/communicator.hpp"
#include "powerprefill/prefill.hpp"

namespace powerprefill {

// Collective. The reports of all ranks in rank order on rank 0, an empty list elsewhere.
std::vector<RankReport> gather_reports(const mpi::Communicator& world, const RankReport& mine);

}  // namespace powerprefill
