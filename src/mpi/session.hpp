// MPI from start to end of the program.
#pragma once

#include "mpi/communicator.hpp"
#include "mpi/shared_memory.hpp"

namespace powerprefill::mpi {

// Initialises MPI (FUNNELED: only the thread that made the session may call MPI) and finalises it.
// One per process. MPI_ERRORS_RETURN is set on every communicator, so failures become `Error`s.
class Session {
 public:
  Session();
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // A duplicate of MPI_COMM_WORLD.
  Communicator& world() noexcept { return world_; }

  // True on the first rank of its node that asks: the one that reports a failure which several
  // ranks may meet at the same time. Needs no other rank.
  bool is_first_to_fail() noexcept;
  // Number of this rank's node, from 0.
  int node() const noexcept { return node_; }

  // Ends the whole job at once with `code`; for a failure that one rank alone has seen. Does not
  // return.
  [[noreturn]] void abort(int code) noexcept;

 private:
  Communicator world_;
  SharedMemory failed_;  // one flag per node
  int node_ = 0;
};

// True once MPI has been initialised and not yet finalised.
bool is_active() noexcept;

// "Open MPI v4.1.4, ..." in one line.
std::string library_version();

}  // namespace powerprefill::mpi
