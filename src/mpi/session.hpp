// MPI from start to end of the program.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mpi/communicator.hpp"
#include "mpi/shared_memory.hpp"

namespace powerprefill::mpi {

// MPI between MPI_Init (FUNNELED: only the thread that started the session may call MPI) and
// MPI_Finalize. One per process. MPI_ERRORS_RETURN is set on every communicator, so failures become
// `Error`s.
class Session {
 public:
  using Waiting = std::function<void(const std::string& what)>;
  // Collective over the job. `waiting` is told, as a text for the user, what the start waits for
  // from now on; while ranks are missing rank 0 tells which, again and again.
  static Session start(const Waiting& waiting = [](const std::string&) {});
  // Collective over the job: MPI_Finalize waits for all ranks. A rank that ends alone calls
  // abort().
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // A duplicate of MPI_COMM_WORLD.
  Communicator& world() noexcept { return world_; }

  // The ranks of this rank's node.
  const Communicator& node_ranks() const noexcept { return node_ranks_; }
  // Number of this rank's node, from 0, and of all nodes.
  int node() const noexcept { return node_; }
  int nodes() const noexcept { return nodes_; }
  // The name of the host that a rank runs on.
  const std::string& host_of(int rank) const { return hosts_.at(static_cast<std::size_t>(rank)); }

  // True on the first rank of its node that asks: the one that reports a failure which several
  // ranks may meet at the same time. Needs no other rank.
  bool is_first_to_fail() noexcept;

  // Ends the whole job at once with `code`; for a failure that one rank alone has seen. Does not
  // return.
  [[noreturn]] void abort(int code) noexcept;

 private:
  explicit Session(const Waiting& waiting);
  void find_hosts(const Waiting& waiting);

  Communicator world_;
  Communicator node_ranks_;
  std::vector<std::string> hosts_;  // by rank
  SharedMemory failed_;             // one flag per node
  int node_ = 0;
  int nodes_ = 1;
};

// The name of this host, as MPI has it.
std::string host_name();

// True once MPI has been initialised and not yet finalised.
bool is_active() noexcept;

// "Open MPI v4.1.4, ..." in one line.
std::string library_version();

}  // namespace powerprefill::mpi
