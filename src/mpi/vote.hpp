// A question to all ranks that nobody waits for.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <memory>

#include "mpi/communicator.hpp"

namespace powerprefill::mpi {

// The largest value that any rank gives, found in the background: start() on every rank, the answer
// whenever result() is called, which waits only for ranks that have not started yet.
class Vote {
 public:
  // Collective.
  explicit Vote(const Communicator& comm) : state_(new State{comm.dup(), MPI_REQUEST_NULL, 0, 0}) {}
  Vote(const Vote&) = delete;
  Vote& operator=(const Vote&) = delete;
  // An open vote is completed; when an exception is on its way the other ranks may never take part,
  // and what MPI may still write to is left to it.
  ~Vote();

  // Collective. @pre no vote is open
  void start(std::int64_t value);
  bool is_open() const { return state_->request != MPI_REQUEST_NULL; }
  // @pre a vote is open
  std::int64_t result();

 private:
  struct State {
    Communicator comm;
    MPI_Request request;
    std::int64_t mine;
    std::int64_t largest;
  };
  std::unique_ptr<State> state_;
};

}  // namespace powerprefill::mpi
