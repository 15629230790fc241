// A lock on a whole file: an output has one writer at a time, and any number of readers.
#pragma once

#include "files/files.hpp"

namespace powerprefill {

enum class LockResult {
  held,         // ours until every copy of the descriptor is closed, by exit or kill at the latest
  busy,         // another process, or another descriptor of this one, holds it
  unsupported,  // the file system has no locks
};

// Tries, without waiting, to lock the whole of `file` (opened for writing) by an open file
// description lock. Unlike flock it holds on network file systems; unlike a POSIX lock it survives
// the closing of other descriptors of the same file.
LockResult try_lock(const FileHandle& file);

}  // namespace powerprefill
