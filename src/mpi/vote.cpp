#include "mpi/vote.hpp"

#include <exception>

#include "mpi/check.hpp"

namespace powerprefill::mpi {

Vote::~Vote() {
  if (is_open() && std::uncaught_exceptions() == 0) MPI_Wait(&request_, MPI_STATUS_IGNORE);
}

void Vote::start(std::int64_t value) {
  mine_ = value;
  check(MPI_Iallreduce(&mine_, &largest_, 1, MPI_INT64_T, MPI_MAX, comm_.native(), &request_),
        "MPI_Iallreduce");
}

std::int64_t Vote::result() {
  check(MPI_Wait(&request_, MPI_STATUS_IGNORE), "MPI_Wait");
  return largest_;
}

}  // namespace powerprefill::mpi
