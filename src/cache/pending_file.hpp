// A cache file while it is being built: under a temporary name, removed unless it is published.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "files/files.hpp"

namespace powerprefill {

// Held by rank 0 alone. From construction to publish() or destruction, a lock tells other programs
// that the temporary file is in use: at first that of a probe file beside it, which also shows
// whether the other ranks see the same folder, then that of the file itself, which HDF5 makes.
class PendingFile {
 public:
  // Checks that the file behind the links of `path` may be made or replaced, locks one that is to
  // be replaced and keeps its mode and owner, removes the temporary files of dead writers, and
  // makes the probe. Throws Error: usage when the file exists and `force` is false, or is a folder
  // or a device; cache when another writer holds it; storage when the folder is missing or
  // unwritable.
  PendingFile(const std::filesystem::path& path, bool force);
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;
  ~PendingFile();

  // The file behind the links of `path`. Throws Error(usage) for what is no file.
  static std::filesystem::path target_of(const std::filesystem::path& path);

  std::uint64_t generation() const { return generation_; }
  const std::filesystem::path& temporary() const { return temporary_; }
  const std::filesystem::path& probe() const { return probe_; }
  const std::string& probe_text() const { return probe_text_; }

  // Finds out whether a file of `bytes` bytes fits, by reserving them for an instant, before HDF5
  // begins to write. Throws Error(storage).
  void require_space(std::int64_t bytes);
  // An empty file for HDF5's structure: in shared memory, where writes do not fail, since HDF5
  // crashes when it is closed after a failed write; beside the output where there is none.
  FileHandle structure_image() const;
  // Makes and locks the temporary file, with the length of `image` and the parts of it that were
  // written. Throws Error(storage).
  void copy_structure(const FileHandle& image);
  // Reserves the space of the temporary file's whole length, and syncs it. Throws Error(storage).
  void reserve();
  // Another descriptor of the temporary file, which shares the lock and bears the final name in
  // messages.
  FileHandle descriptor() const;
  // Gives the file its final name, and syncs the folder.
  void publish();

  // What the file system could not do, as texts for the user.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  explicit PendingFile(std::filesystem::path target);
  // fallocate(2) of `file`; false where the file system cannot reserve.
  bool reserve_space(const FileHandle& file, int mode, std::int64_t bytes) const;
  void take_over_existing(bool force);
  void make_probe();

  std::filesystem::path path_;  // behind all links
  std::filesystem::path temporary_;
  std::filesystem::path probe_;
  std::string probe_text_;
  std::uint64_t generation_ = 0;
  FileHandle replaced_;  // the file that `path` names so far, locked; empty if there is none
  FileHandle probe_file_;
  FileHandle file_;
  std::vector<std::string> warnings_;
};

// On the other ranks: throws Error(launch) unless `probe` can be read and contains `text`, within
// two seconds.
void require_shared_folder(const std::filesystem::path& probe, const std::string& text);

// On the other ranks: opens the temporary file for writing under the name `path`, which it will
// have. Throws Error(launch) unless it appears within two seconds with this inode.
FileHandle open_shared_file(const std::filesystem::path& temporary, std::uint64_t inode,
                            const std::filesystem::path& path);

}  // namespace powerprefill
