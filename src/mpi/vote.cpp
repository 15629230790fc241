#include "mpi/vote.hpp"

#include <exception>

#include "mpi/check.hpp"

namespace powerprefill::mpi {

Vote::~Vote() {
  if (!is_open()) return;
  if (std::uncaught_exceptions() > 0) {
    static_cast<void>(state_.release());
  } else {
    MPI_Wait(&state_->request, MPI_STATUS_IGNORE);
  }
}

void Vote::start(std::int64_t value) {
  state_->mine = value;
  check(MPI_Iallreduce(&state_->mine, &state_->largest, 1, MPI_INT64_T, MPI_MAX,
                       state_->comm.native(), &state_->request),
        "MPI_Iallreduce");
}

std::int64_t Vote::result() {
  check(MPI_Wait(&state_->request, MPI_STATUS_IGNORE), "MPI_Wait");
  return state_->largest;
}

}  // namespace powerprefill::mpi
