#include "mpi/vote.hpp"

#include <cstdlib>
#include <exception>

#include "base/say.hpp"
#include "mpi/check.hpp"

namespace powerprefill::mpi {

Vote Vote::make(const Communicator& comm) {
  return Vote(std::unique_ptr<State>(new State{comm.dup(), MPI_REQUEST_NULL, 0, 0}));
}

Vote::~Vote() {
  if (!is_open()) return;
  if (std::uncaught_exceptions() == 0) {
    say("powerprefill: a vote of all ranks was destroyed while open\n");
    std::abort();
  }
  // Collective operations cannot be cancelled in MPI.
  static_cast<void>(state_.release());
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
