#include "mpi/communicator.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/checked.hpp"
#include "base/shortened.hpp"
#include "mpi/check.hpp"
#include "mpi/session.hpp"

namespace powerprefill::mpi {

namespace {

// A broadcast is cut into pieces of this many bytes: Open MPI 4 counts in int.
constexpr std::size_t kLargestMessage = std::size_t{1} << 30;

constexpr std::size_t kLongestShown = 200;  // bytes of a value in a message

template <typename T>
T reduce(const Communicator& comm, T value, MPI_Datatype type, MPI_Op op) {
  T result{};
  check(MPI_Allreduce(&value, &result, 1, type, op, comm.native()), "MPI_Allreduce");
  return result;
}

}  // namespace

Communicator::Communicator(MPI_Comm owned) : comm_(owned) {
  check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
}

Communicator::Communicator(Communicator&& other) noexcept
    : comm_(std::exchange(other.comm_, MPI_COMM_NULL)), rank_(other.rank_), size_(other.size_) {}

Communicator& Communicator::operator=(Communicator&& other) noexcept {
  std::swap(comm_, other.comm_);
  std::swap(rank_, other.rank_);
  std::swap(size_, other.size_);
  return *this;
}

Communicator::~Communicator() {
  // After MPI_Finalize, which has ended all communicators, no call is allowed.
  if (comm_ != MPI_COMM_NULL && is_active()) MPI_Comm_free(&comm_);
}

Communicator Communicator::duplicate(MPI_Comm comm) {
  MPI_Comm copy = MPI_COMM_NULL;
  check(MPI_Comm_dup(comm, &copy), "MPI_Comm_dup");
  return Communicator(copy);
}

Communicator Communicator::split_node() const {
  MPI_Comm part = MPI_COMM_NULL;
  check(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &part),
        "MPI_Comm_split_type");
  return Communicator(part);
}

Communicator Communicator::split_numa() const {
  // Before version 4 the standard has a type for nodes alone.
#ifdef OPEN_MPI
  MPI_Comm part = MPI_COMM_NULL;
  check(MPI_Comm_split_type(comm_, OMPI_COMM_TYPE_NUMA, rank_, MPI_INFO_NULL, &part),
        "MPI_Comm_split_type");
  return Communicator(part);
#else
  return split_node();
#endif
}

void Communicator::barrier() const {
  check(MPI_Barrier(comm_), "MPI_Barrier");
}

void Communicator::broadcast(std::span<std::byte> data, int root) const {
  while (!data.empty()) {
    const std::size_t count = std::min(data.size(), kLargestMessage);
    check(MPI_Bcast(data.data(), static_cast<int>(count), MPI_BYTE, root, comm_), "MPI_Bcast");
    data = data.subspan(count);
  }
}

std::string Communicator::broadcast_string(const std::string& text, int root) const {
  // The other ranks do not know how long the text is.
  std::uint64_t size = text.size();
  broadcast_value(size, root);
  std::string result = rank_ == root ? text : std::string(size, '\0');
  broadcast(std::as_writable_bytes(std::span(result)), root);
  return result;
}

std::int64_t Communicator::sum(std::int64_t v) const {
  return reduce(*this, v, MPI_INT64_T, MPI_SUM);
}
std::int64_t Communicator::prefix_sum(std::int64_t v) const {
  // Not MPI_Exscan, which leaves rank 0's result undefined.
  std::int64_t with_own = 0;
  check(MPI_Scan(&v, &with_own, 1, MPI_INT64_T, MPI_SUM, comm_), "MPI_Scan");
  return with_own - v;
}
std::int64_t Communicator::max(std::int64_t v) const {
  return reduce(*this, v, MPI_INT64_T, MPI_MAX);
}
std::int64_t Communicator::min(std::int64_t v) const {
  return reduce(*this, v, MPI_INT64_T, MPI_MIN);
}
double Communicator::max(double v) const {
  return reduce(*this, v, MPI_DOUBLE, MPI_MAX);
}

void Communicator::all_gather(std::span<const std::byte> mine, std::span<std::byte> all,
                              std::span<const int> pieces) const {
  std::vector<int> offsets(pieces.size(), 0);
  std::partial_sum(pieces.begin(), pieces.end() - 1, offsets.begin() + 1);
  check(MPI_Allgatherv(mine.data(), checked_cast<int>(mine.size()), MPI_BYTE, all.data(),
                       pieces.data(), offsets.data(), MPI_BYTE, comm_),
        "MPI_Allgatherv");
}

std::vector<std::string> Communicator::gather_strings(const std::string& mine, int root) const {
  // Lengths first: they differ, and the root has to make room.
  const int count = checked_cast<int>(mine.size());
  std::vector<int> counts(static_cast<std::size_t>(size_), 0);
  check(MPI_Gather(&count, 1, MPI_INT, counts.data(), 1, MPI_INT, root, comm_), "MPI_Gather");
  std::vector<int> offsets(counts.size(), 0);
  std::int64_t total = 0;
  for (std::size_t r = 0; r < counts.size(); ++r) {
    offsets[r] = checked_cast<int>(total);
    total += counts[r];
  }
  std::string all(checked_cast<std::size_t>(total), '\0');
  check(MPI_Gatherv(mine.data(), count, MPI_BYTE, all.data(), counts.data(), offsets.data(),
                    MPI_BYTE, root, comm_),
        "MPI_Gatherv");
  std::vector<std::string> result;
  if (rank_ != root) return result;
  for (std::size_t r = 0; r < counts.size(); ++r) {
    result.push_back(
        all.substr(static_cast<std::size_t>(offsets[r]), static_cast<std::size_t>(counts[r])));
  }
  return result;
}

void Communicator::require_same(ErrorCode code, const std::vector<Same>& values) const {
  // All of them travel before the first is compared, so that ranks that differ in one make the same
  // calls.
  std::vector<std::string> of_root;
  const std::string host = broadcast_string(host_name(), 0);
  for (const Same& same : values) of_root.push_back(broadcast_string(same.value, 0));
  agree([&] {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (values[i].value == of_root[i]) continue;
      throw Error(code, fmt::format("the ranks differ in their {}: '{}' on rank {} (host {}), '{}' "
                                    "on rank 0 (host {}); {}",
                                    values[i].what, shortened(values[i].value, kLongestShown),
                                    rank_, host_name(), shortened(of_root[i], kLongestShown), host,
                                    values[i].advice));
    }
  });
}

void Communicator::agree(const std::function<void()>& phase) const {
  int code = 0;
  std::string message;
  try {
    phase();
  } catch (const Error& error) {
    // From an agreement within `phase`: every rank is throwing it.
    if (error.is_agreed()) throw;
    code = static_cast<int>(error.code());
    message = error.what();
  } catch (const std::bad_alloc&) {
    code = static_cast<int>(ErrorCode::internal);
    message = "out of memory; use more nodes, fewer ranks per node, or a shorter prompt";
  } catch (const std::exception& error) {
    code = static_cast<int>(ErrorCode::internal);
    message = error.what();
  }
  // One number settles the usual case, that nobody has failed. The lowest rank speaks where several
  // have.
  const std::int64_t failing = min(std::int64_t{code == 0 ? size_ : rank_});
  if (failing == size_) return;
  const int rank = static_cast<int>(failing);
  broadcast_value(code, rank);
  message = broadcast_string(message, rank);
  throw Error::agreed(static_cast<ErrorCode>(code), message, rank);
}

}  // namespace powerprefill::mpi
