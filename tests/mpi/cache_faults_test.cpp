// Storage that fails: this program's own pwrite, fsync, fdatasync, fallocate and renameat2 stand
// before those of the C library, and fail when told to.
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "cache_support.hpp"

namespace {

// The errno of the calls after the next `skip` ones; 0: the call works.
struct Fault {
  std::atomic<int> error{0};
  std::atomic<int> skip{0};

  bool strikes() {
    if (error == 0 || skip-- > 0) return false;
    errno = error;
    return true;
  }
};

// Files in memory do not fail: HDF5 makes its structure there.
bool in_memory(int fd) {
  struct stat memory {};
  struct stat file {};
  return ::stat("/dev/shm", &memory) == 0 && ::fstat(fd, &file) == 0 &&
         file.st_dev == memory.st_dev;
}

Fault pwrite_fault;
Fault fsync_fault;
Fault fdatasync_fault;
Fault fallocate_fault;
Fault rename_fault;

}  // namespace

extern "C" {

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  return !in_memory(fd) && pwrite_fault.strikes() ? -1
                                                  : ::syscall(SYS_pwrite64, fd, data, size, offset);
}
int fsync(int fd) {
  return fsync_fault.strikes() ? -1 : static_cast<int>(::syscall(SYS_fsync, fd));
}
int fdatasync(int fd) {
  return fdatasync_fault.strikes() ? -1 : static_cast<int>(::syscall(SYS_fdatasync, fd));
}
int fallocate(int fd, int mode, off_t offset, off_t size) {
  return fallocate_fault.strikes()
             ? -1
             : static_cast<int>(::syscall(SYS_fallocate, fd, mode, offset, size));
}
int renameat2(int from_fd, const char* from, int to_fd, const char* to,
              unsigned int flags) noexcept {
  return rename_fault.strikes()
             ? -1
             : static_cast<int>(::syscall(SYS_renameat2, from_fd, from, to_fd, to, flags));
}
}

namespace powerprefill::cache_test {
namespace {

using mpi::Communicator;

class CacheFaultsTest : public test::FolderTest {};

// The last rank is the one in trouble, so that the others have to learn of it.
bool in_trouble(const Communicator& comm) {
  return comm.rank() == comm.size() - 1;
}

TEST_F(CacheFaultsTest, SetUpFails) {
  const CacheHeader header = small_header(DType::f32);
  const fs::path path = folder / "kv.h5";
  const auto fails = [&](Fault& fault, int error, int skip, bool here, const std::string& text) {
    fault.skip = skip;
    fault.error = here ? error : 0;
    expect_agreed(comm, ErrorCode::storage, kAnyRank, text,
                  [&] { CacheWriter::create(comm, path, header, false); });
    fault.error = 0;
    comm.barrier();
    EXPECT_EQ(names_in(folder), Names()) << "after: " << text;
    comm.barrier();
  };
  fails(fallocate_fault, ENOSPC, 0, true, "cannot reserve");  // before HDF5's work
  fails(fallocate_fault, ENOSPC, 1, true, "cannot reserve");  // after it
  fails(rename_fault, EIO, 0, true, "cannot rename");
  // Every sync of rank 0 in turn: the probe's, the file's, the folder's.
  for (int skip = 0; skip < 3; ++skip) {
    fails(fsync_fault, EIO, skip, comm.is_root(), "cannot sync");
  }
  // The first writes of rank 0: the probe's, then those of HDF5.
  for (int skip = 0; skip < 4; ++skip) fails(pwrite_fault, EIO, skip, comm.is_root(), "cannot");
}

TEST_F(CacheFaultsTest, PoorFileSystems) {
  const CacheHeader header = small_header(DType::f32);
  const fs::path path = folder / "kv.h5";
  fallocate_fault.error = EOPNOTSUPP;
  rename_fault.error = EINVAL;
  {
    CacheWriter writer = CacheWriter::create(comm, path, header, false);
    EXPECT_EQ(writer.warnings().size(), comm.is_root() ? 1U : 0U);
    write_tokens(comm, writer, 0, 40);
    expect_contents(CacheReader::open(path), 40);
  }
  expect_agreed(comm, ErrorCode::usage, kAnyRank, "add --force",
                [&] { CacheWriter::create(comm, path, header, false); });
  fallocate_fault.error = 0;
  rename_fault.error = 0;
  comm.barrier();
  EXPECT_EQ(names_in(folder), Names({"kv.h5"}));
}

// A failure after set-up: one message everywhere, and the commit before still counts.
TEST_F(CacheFaultsTest, CommitsFail) {
  const CacheHeader header = small_header(DType::f32);
  const auto fails = [&](Fault& fault, int error, int skip, bool here, const std::string& text) {
    const fs::path path = folder / "kv.h5";
    CacheWriter writer = CacheWriter::create(comm, path, header, true);
    write_tokens(comm, writer, 0, 40);
    fault.skip = skip;
    fault.error = here ? error : 0;
    expect_agreed(comm, ErrorCode::storage, kAnyRank, text,
                  [&] { write_tokens(comm, writer, 32, 192); });
    fault.error = 0;
    expect_error(ErrorCode::storage, text, [&] { commit(writer, 192); });
    const CacheReader reader = CacheReader::open(path);
    EXPECT_EQ(reader.sequence(), 1U) << "a failed commit counts: " << text;
    EXPECT_EQ(reader.token_ids(), token_ids(40)) << text;
    EXPECT_EQ(reader.tokens(), 40) << text;
    comm.barrier();
  };
  fails(pwrite_fault, ENOSPC, 3, in_trouble(comm), "cannot write");
  fails(fsync_fault, EIO, 0, in_trouble(comm), "cannot sync");
  fails(fdatasync_fault, EIO, 0, comm.is_root(), "cannot sync the commit record");
}

// The queue is done, and rank 0 fails at each of the writes of a commit in turn.
TEST_F(CacheFaultsTest, ValuesFail) {
  const CacheHeader header = small_header(DType::bf16, true);
  const fs::path path = folder / "kv.h5";
  constexpr int writes_of_a_commit = 7;  // 2 tables, tokens, decoded, logits, hidden, record
  for (int skip = 0; skip < writes_of_a_commit; ++skip) {
    CacheWriter writer = CacheWriter::create(comm, path, header, true);
    write_tokens(comm, writer, 0, 32);
    write_rows(comm, writer, 32, 64);
    pwrite_fault.skip = skip;
    pwrite_fault.error = comm.is_root() ? EIO : 0;
    expect_agreed(comm, ErrorCode::storage, kAnyRank, "cannot write", [&] { commit(writer, 64); });
    pwrite_fault.error = 0;
    expect_contents(CacheReader::open(path), 32);
    EXPECT_EQ(CacheReader::open(path).sequence(), 1U) << "a failed commit counts: " << skip;
    comm.barrier();
  }
  CacheWriter writer = CacheWriter::create(comm, path, header, true);
  write_tokens(comm, writer, 0, 32);
  write_rows(comm, writer, 32, 64);
  pwrite_fault.skip = writes_of_a_commit;
  pwrite_fault.error = comm.is_root() ? EIO : 0;
  commit(writer, 64);  // a commit has no write beyond those
  pwrite_fault.error = 0;
}

}  // namespace
}  // namespace powerprefill::cache_test
