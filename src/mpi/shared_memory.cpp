#include "mpi/shared_memory.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <random>
#include <utility>

#include "base/checked.hpp"
#include "base/hash.hpp"
#include "base/memory.hpp"
#include "files/files.hpp"

namespace powerprefill::mpi {

namespace {

void reserve(const FileHandle& file, std::int64_t bytes, const std::string& hint) {
  if (::fallocate(file.fd(), 0, 0, bytes) == 0) return;
  // Some file systems have no fallocate(2); there a lack of space shows late, as a SIGBUS.
  if (errno == EOPNOTSUPP && ::ftruncate(file.fd(), bytes) == 0) return;
  throw Error(ErrorCode::storage,
              fmt::format("cannot reserve {} bytes for the weights in {}: {}; {}", bytes,
                          file.path().string(), reason_of_errno(errno), hint));
}

}  // namespace

SharedMemory SharedMemory::make(const Communicator& node, std::int64_t bytes, SharedStore store,
                                const std::filesystem::path& scratch_folder) {
  SharedMemory made;
  made.size_ = checked_cast<std::size_t>(bytes);
  // A memory of no bytes still gets one page, so that it can be mapped.
  const std::int64_t reserved = std::max<std::int64_t>(bytes, 1);
  FileHandle file;
  std::string path;
  bool in_memory = store != SharedStore::file;
  // The first rank alone looks for room and decides: what is available changes with every look, and
  // all ranks must take the same store.
  node.agree([&] {
    if (!node.is_root()) return;
    const AvailableMemory memory = available_memory();
    if (in_memory && memory.bytes < reserved) {
      if (store == SharedStore::memory) {
        throw Error(ErrorCode::internal,
                    fmt::format("the weights take {} bytes, and {} are available (bounded by {}); "
                                "use --weights-store FOLDER to keep them in a mapped file",
                                reserved, memory.bytes, memory.bound));
      }
      in_memory = false;
    }
    if (in_memory) {
      file = FileHandle::adopt(::memfd_create("powerprefill-weights", MFD_CLOEXEC), "memory");
      if (!file) {
        throw Error(ErrorCode::internal, "memfd_create failed: " + reason_of_errno(errno));
      }
      // The way for other processes to memory that has no name: no descriptor has to be sent.
      path = fmt::format("/proc/{}/fd/{}", ::getpid(), file.fd());
      reserve(file, reserved, "use --weights-store FOLDER to keep them in a mapped file");
    } else {
      path = scratch_folder /
             ("powerprefill-weights-" + hex_of((std::uint64_t{std::random_device{}()} << 32) |
                                               static_cast<std::uint32_t>(::getpid())));
      file = FileHandle::open(path, O_RDWR | O_CREAT | O_EXCL, ErrorCode::storage, 0600);
      try {
        reserve(file, reserved, "name a folder with more space by --weights-store FOLDER");
      } catch (...) {
        ::unlink(path.c_str());
        throw;
      }
    }
  });
  node.broadcast_value(in_memory, 0);
  path = node.broadcast_string(path, 0);
  try {
    node.agree([&] {
      // Fails where ranks of a node do not see each other's processes, or its disk: the launch is
      // to blame.
      if (!node.is_root()) file = FileHandle::open(path, O_RDWR, ErrorCode::launch);
      void* address = ::mmap(nullptr, static_cast<std::size_t>(reserved), PROT_READ | PROT_WRITE,
                             MAP_SHARED, file.fd(), 0);
      if (address == MAP_FAILED) {
        throw Error(ErrorCode::internal, fmt::format("cannot map {} bytes of shared weights: {}",
                                                     reserved, reason_of_errno(errno)));
      }
      made.data_ = static_cast<std::byte*>(address);
    });
  } catch (...) {
    if (!in_memory && node.is_root()) ::unlink(path.c_str());
    throw;
  }
  // Mapped by all: without a name it goes with the last of them, however they end.
  if (!in_memory && node.is_root()) ::unlink(path.c_str());
  made.location_ = in_memory ? "memory" : "file in " + scratch_folder.string();
  return made;
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      location_(std::move(other.location_)) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(location_, other.location_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) ::munmap(data_, std::max<std::size_t>(size_, 1));
}

}  // namespace powerprefill::mpi
