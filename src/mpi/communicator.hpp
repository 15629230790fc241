// An owned MPI communicator and the few collective operations that powerprefill needs.
//
// Blocks move by point-to-point messages (see request.hpp); collectives here carry small things:
// agreement, counters, and the rows of decoding.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "powerprefill/error.hpp"

namespace powerprefill::mpi {

// Every rank of a communicator makes the same collective calls in the same order. Here these are
// the functions without noexcept; none of them hides in a constructor, an operator or a conversion.
class Communicator {
 public:
  Communicator() = default;
  Communicator(Communicator&& other) noexcept;
  Communicator& operator=(Communicator&& other) noexcept;
  // MPI_Comm_free: collective by the standard, which expects it to be local, as Open MPI has it.
  ~Communicator();

  // Collective. A duplicate with its own message space; MPI_ERRORS_RETURN is set.
  static Communicator duplicate(MPI_Comm comm);
  Communicator dup() const { return duplicate(comm_); }

  // Collective. The ranks of this communicator that share memory with this one: those of its node,
  // or of its NUMA domain (needs ranks bound to cores; unbound ranks count as one domain).
  Communicator split_node() const;
  Communicator split_numa() const;

  int rank() const noexcept { return rank_; }
  int size() const noexcept { return size_; }
  bool is_root() const noexcept { return rank_ == 0; }
  MPI_Comm native() const noexcept { return comm_; }

  // All below are collective.
  void barrier() const;

  // `data` of `root` is copied to every rank. Sizes must agree; any length.
  void broadcast(std::span<std::byte> data, int root) const;
  template <typename T>
  requires std::is_trivially_copyable_v<T>
  void broadcast_value(T& value, int root) const {
    broadcast(std::as_writable_bytes(std::span(&value, 1)), root);
  }
  // The string of `root` on every rank.
  std::string broadcast_string(const std::string& text, int root) const;

  std::int64_t sum(std::int64_t value) const;
  // The sum over the ranks below this one.
  std::int64_t prefix_sum(std::int64_t value) const;
  std::int64_t max(std::int64_t value) const;
  std::int64_t min(std::int64_t value) const;
  double max(double value) const;

  // Everyone gets the pieces of all ranks, in rank order, in `all`. `pieces[r]` is rank r's byte
  // count (the same list everywhere) and mine.size() == pieces[rank()]. Below 2^31 bytes in all.
  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all,
                  std::span<const int> pieces) const;

  // The values of all ranks, in rank order, on every rank.
  template <typename T>
  requires std::is_trivially_copyable_v<T> std::vector<T> all_gather_value(const T& mine)
  const {
    std::vector<T> all(static_cast<std::size_t>(size_));
    const std::vector<int> pieces(all.size(), static_cast<int>(sizeof mine));
    all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)), pieces);
    return all;
  }

  // Rank `root` gets the byte strings of all ranks, in rank order; the others get an empty list.
  std::vector<std::string> gather_strings(const std::string& mine, int root) const;

  // A value that all ranks have to have in common, by name.
  struct Same {
    std::string what;
    std::string value;
    std::string advice = {};  // what to do where it differs
  };
  // Throws an agreed Error(code) unless every rank has the values that rank 0 has:
  // names the first that differs, with both values and hosts. `values` has the same names
  // everywhere.
  void require_same(ErrorCode code, const std::vector<Same>& values) const;

  // Agreement on success. Runs `phase` on every rank; when it throws on any of them,
  // every rank throws the same agreed Error: that of the lowest failing rank. `phase` itself must
  // not wait for other ranks after its first point of failure.
  void agree(const std::function<void()>& phase) const;

 private:
  explicit Communicator(MPI_Comm owned);

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace powerprefill::mpi
