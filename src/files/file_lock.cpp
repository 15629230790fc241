#include "files/file_lock.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>

namespace powerprefill {

LockResult try_lock(const FileHandle& file) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;  // with start 0 and length 0: everything, however long it grows
  while (::fcntl(file.fd(), F_OFD_SETLK, &lock) != 0) {
    switch (errno) {
      case EINTR:
        continue;
      case EAGAIN:
      case EACCES:
        return LockResult::busy;
      case EINVAL:
      case ENOLCK:
      case ENOSYS:
      case EOPNOTSUPP:
        return LockResult::unsupported;
      default:
        throw Error(ErrorCode::storage, fmt::format("cannot lock {}: {}", file.path().string(),
                                                    reason_of_errno(errno)));
    }
  }
  return LockResult::held;
}

}  // namespace powerprefill
