// Memory shared by the ranks of one node.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "mpi/communicator.hpp"

namespace powerprefill::mpi {

// Where the shared memory lives.
enum class SharedStore {
  automatic,  // memory when enough is available, else a file
  memory,     // anonymous memory; Error(internal) when there is not enough
  file,       // a mapped file in the scratch folder, unlinked as soon as every rank has mapped it
};

// `bytes` bytes that every rank of `node` sees at an address of its own; zero at first. Nothing is
// left behind by a killed job but, in the instant of creation, a file in the scratch folder.
//
// The memory is an anonymous file of the node's first rank (memfd), which the others open through
// /proc: unlike MPI's own shared windows it is not limited by the size of /dev/shm, which is 64 MiB
// in many containers. Space is reserved when it is made, so a lack of it is an Error and not a
// SIGBUS in mid-run.
class SharedMemory {
 public:
  SharedMemory() = default;
  // Collective over `node`. Throws an agreed Error(storage or internal).
  static SharedMemory make(const Communicator& node, std::int64_t bytes, SharedStore store,
                           const std::filesystem::path& scratch_folder);
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();  // not collective: the memory goes with the last rank that sees it

  std::span<std::byte> bytes() noexcept { return {data_, size_}; }
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  // "memory", or "file in FOLDER".
  const std::string& location() const noexcept { return location_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::string location_;
};

}  // namespace powerprefill::mpi
