// A question to all ranks that nobody waits for.
#pragma once

#include <mpi.h>

#include <cstdint>

#include "mpi/communicator.hpp"

namespace powerprefill::mpi {

// The largest value that any rank gives, found in the background: start() on every rank, the answer
// whenever result() is called, which waits only for ranks that have not started yet.
class Vote {
 public:
  explicit Vote(const Communicator& comm) : comm_(comm.dup()) {}
  Vote(const Vote&) = delete;
  Vote& operator=(const Vote&) = delete;
  ~Vote();  // an open vote is completed, unless an exception is on its way

  // Collective. @pre no vote is open
  void start(std::int64_t value);
  bool is_open() const { return request_ != MPI_REQUEST_NULL; }
  // @pre a vote is open
  std::int64_t result();

 private:
  Communicator comm_;
  MPI_Request request_ = MPI_REQUEST_NULL;
  std::int64_t mine_ = 0;
  std::int64_t largest_ = 0;
};

}  // namespace powerprefill::mpi
