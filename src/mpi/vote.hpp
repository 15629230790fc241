// A question to all ranks that nobody waits for.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "mpi/communicator.hpp"

namespace powerprefill::mpi {

// The largest value that any rank gives, found in the background: start() on every rank, the answer
// whenever result() is called, which waits only for ranks that have not started yet.
class Vote {
 public:
  // Collective: makes a communicator, on which votes meet no other messages.
  static Vote make(const Communicator& comm);
  Vote(Vote&&) noexcept = default;
  Vote& operator=(Vote&&) = delete;
  // Not collective, so no vote may be open: the program would end, loudly. When an exception is on
  // its way the other ranks may never take part, and what MPI may still write to is left to it.
  ~Vote();

  // Collective. @pre no vote is open
  void start(std::int64_t value);
  bool is_open() const { return state_ && state_->request != MPI_REQUEST_NULL; }
  // Waits for ranks that have not started yet. @pre a vote is open
  std::int64_t result();

 private:
  struct State {
    Communicator comm;
    MPI_Request request;
    std::int64_t mine;
    std::int64_t largest;
  };
  explicit Vote(std::unique_ptr<State> state) : state_(std::move(state)) {}

  std::unique_ptr<State> state_;  // MPI has its address while a vote is open
};

}  // namespace powerprefill::mpi
