// Nonblocking messages of any length.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "mpi/communicator.hpp"

namespace powerprefill::mpi {

// A set of nonblocking sends and receives that completes as a whole, e.g. one share of KV blocks.
//
// The memory handed to send() and receive() must stay alive and, for sends, unchanged until the
// batch is complete. A batch destroyed while active would leave MPI writing into freed memory: it
// ends the program loudly, unless an exception is already on its way out. Messages above 1 GiB are
// cut, since Open MPI 4 counts in int; both sides cut alike.
class RequestBatch {
 public:
  RequestBatch() = default;
  RequestBatch(RequestBatch&& other) noexcept;
  RequestBatch& operator=(RequestBatch&& other) noexcept;
  ~RequestBatch();

  void send(const Communicator& comm, int peer, int tag, std::span<const std::byte> data);
  void receive(const Communicator& comm, int peer, int tag, std::span<std::byte> data);

  // Makes progress; true once every message of the batch is complete.
  bool test();
  void wait();

  bool is_complete() const noexcept { return active_ == 0; }
  // Whether nothing was ever sent or received through it.
  bool is_empty() const noexcept { return requests_.empty(); }
  // What arrived so far, counted from the statuses of completed receives.
  std::int64_t bytes_received() const noexcept { return bytes_received_; }

 private:
  void count(const MPI_Status& status, std::size_t i);

  std::vector<MPI_Request> requests_;
  std::vector<std::int64_t> expected_bytes_;  // -1 for a send
  std::size_t active_ = 0;
  std::int64_t bytes_received_ = 0;
};

}  // namespace powerprefill::mpi
