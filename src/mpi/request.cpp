#include "mpi/request.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <utility>

#include "base/say.hpp"
#include "mpi/check.hpp"

namespace powerprefill::mpi {

namespace {
constexpr std::size_t kLargestMessage = std::size_t{1} << 30;
}

RequestBatch::RequestBatch(RequestBatch&& other) noexcept
    : requests_(std::move(other.requests_)),
      expected_bytes_(std::move(other.expected_bytes_)),
      active_(std::exchange(other.active_, 0)),
      bytes_received_(std::exchange(other.bytes_received_, 0)) {}

RequestBatch& RequestBatch::operator=(RequestBatch&& other) noexcept {
  std::swap(requests_, other.requests_);
  std::swap(expected_bytes_, other.expected_bytes_);
  std::swap(active_, other.active_);
  std::swap(bytes_received_, other.bytes_received_);
  return *this;
}

RequestBatch::~RequestBatch() {
  if (active_ == 0 || std::uncaught_exceptions() > 0) return;
  say("powerprefill: a batch of MPI requests was destroyed while active\n");
  std::abort();
}

void RequestBatch::send(const Communicator& comm, int peer, int tag,
                        std::span<const std::byte> data) {
  while (!data.empty()) {
    const std::size_t count = std::min(data.size(), kLargestMessage);
    MPI_Request request = MPI_REQUEST_NULL;
    check(MPI_Isend(data.data(), static_cast<int>(count), MPI_BYTE, peer, tag, comm.native(),
                    &request),
          "MPI_Isend");
    requests_.push_back(request);
    expected_bytes_.push_back(-1);
    ++active_;
    data = data.subspan(count);
  }
}

void RequestBatch::receive(const Communicator& comm, int peer, int tag, std::span<std::byte> data) {
  while (!data.empty()) {
    const std::size_t count = std::min(data.size(), kLargestMessage);
    MPI_Request request = MPI_REQUEST_NULL;
    check(MPI_Irecv(data.data(), static_cast<int>(count), MPI_BYTE, peer, tag, comm.native(),
                    &request),
          "MPI_Irecv");
    requests_.push_back(request);
    expected_bytes_.push_back(static_cast<std::int64_t>(count));
    ++active_;
    data = data.subspan(count);
  }
}

void RequestBatch::count(const MPI_Status& status, std::size_t i) {
  --active_;
  if (expected_bytes_[i] < 0) return;
  int bytes = 0;
  check(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
  if (bytes != expected_bytes_[i]) {
    throw Error(ErrorCode::internal,
                fmt::format("rank {} sent {} bytes where {} were planned; all ranks must run the "
                            "same build with the same options",
                            status.MPI_SOURCE, bytes, expected_bytes_[i]));
  }
  bytes_received_ += bytes;
}

bool RequestBatch::test() {
  for (std::size_t i = 0; i < requests_.size() && active_ > 0; ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    int done = 0;
    MPI_Status status;
    check(MPI_Test(&requests_[i], &done, &status), "MPI_Test");
    if (done != 0) count(status, i);
  }
  return active_ == 0;
}

void RequestBatch::wait() {
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    MPI_Status status;
    check(MPI_Wait(&requests_[i], &status), "MPI_Wait");
    count(status, i);
  }
}

}  // namespace powerprefill::mpi
