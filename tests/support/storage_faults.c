// Preloaded by tests: lets storage calls of one rank fail, and writes down what is done to files
// whose path contains $FAULT_PATH. Environment:
//   FAULT_LOG  a line for every such call: "RANK CALL main|thread|record FILE", and, once a commit
//              record is synced, "commit SEQUENCE TOKENS"
//   FAULT_RANK, FAULT_CALL, FAULT_NTH, FAULT_ERRNO
//              the NTH such CALL (from 0) of this rank fails; with FAULT_STICKY so do all calls of
//              any kind that follow
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static _Atomic int seen;      // calls of the kind that is to fail
static _Atomic int striking;  // with FAULT_STICKY: it has begun
static uint64_t record[4];    // the last commit record that was written

static void note(const char* line) {
  const char* log = getenv("FAULT_LOG");
  if (log == NULL) return;
  const int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd >= 0 && write(fd, line, strlen(line)) < 0) abort();
  if (fd >= 0) close(fd);
}

// As the launcher numbers the processes: Open MPI, PMIx, MPICH; NULL without one.
static const char* rank_of_process(void) {
  const char* rank = getenv("OMPI_COMM_WORLD_RANK");
  if (rank == NULL) rank = getenv("PMIX_RANK");
  return rank == NULL ? getenv("PMI_RANK") : rank;
}

// Whether this call is to fail; errno is set if so.
static int strikes(const char* call, const char* path, const char* kind) {
  const char* wanted = getenv("FAULT_PATH");
  const char* rank = rank_of_process();
  if (wanted == NULL || rank == NULL || strstr(path, wanted) == NULL) return 0;
  const char* slash = strrchr(path, '/');
  char line[512];
  snprintf(line, sizeof line, "%s %s %s %.300s\n", rank, call, kind,
           slash == NULL ? path : slash + 1);
  note(line);
  const char* failing = getenv("FAULT_CALL");
  if (failing == NULL || strcmp(rank, getenv("FAULT_RANK")) != 0) return 0;
  const int here = strcmp(call, failing) == 0 && seen++ == atoi(getenv("FAULT_NTH"));
  if (here && getenv("FAULT_STICKY") != NULL) striking = 1;
  if (!here && !striking) return 0;
  errno = atoi(getenv("FAULT_ERRNO"));
  return 1;
}

static int strikes_file(const char* call, int fd, const char* kind) {
  char link[64];
  char path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = '\0';
  return strikes(call, path, kind);
}

static const char* thread(void) {
  return getpid() == gettid() ? "main" : "thread";
}

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  const int is_record = size == 64 && memcmp(data, "PPKVCMT1", 8) == 0;
  if (strikes_file("pwrite", fd, is_record ? "record" : thread())) return -1;
  const ssize_t count = syscall(SYS_pwrite64, fd, data, size, offset);
  if (is_record && count == 64) {
    memcpy(record, data, sizeof record);
  } else if (getpid() == gettid()) {
    record[2] = 0;  // what is synced next is no record, or takes one back
  }
  return count;
}
ssize_t pwrite64(int fd, const void* data, size_t size, off_t offset) {
  return pwrite(fd, data, size, offset);
}
int fsync(int fd) {
  return strikes_file("fsync", fd, thread()) ? -1 : (int)syscall(SYS_fsync, fd);
}
int fdatasync(int fd) {
  if (strikes_file("fdatasync", fd, "record")) return -1;
  const int status = (int)syscall(SYS_fdatasync, fd);
  if (status == 0 && record[2] != 0) {
    char line[64];
    snprintf(line, sizeof line, "commit %ju %ju\n", (uintmax_t)record[2], (uintmax_t)record[3]);
    note(line);
  }
  return status;
}
int fallocate(int fd, int mode, off_t offset, off_t size) {
  return strikes_file("fallocate", fd, thread())
             ? -1
             : (int)syscall(SYS_fallocate, fd, mode, offset, size);
}
int fallocate64(int fd, int mode, off_t offset, off_t size) {
  return fallocate(fd, mode, offset, size);
}
ssize_t copy_file_range(int from, off_t* from_at, int to, off_t* to_at, size_t size,
                        unsigned flags) {
  return strikes_file("copy_file_range", to, thread())
             ? -1
             : syscall(SYS_copy_file_range, from, from_at, to, to_at, size, flags);
}
int renameat2(int from_at, const char* from, int to_at, const char* to, unsigned flags) {
  return strikes("rename", to, thread())
             ? -1
             : (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
}
int rename(const char* from, const char* to) {
  return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}
