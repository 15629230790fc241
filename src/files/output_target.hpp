// Where an output goes, and how a new file comes into the place of an old one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "files/file_lock.hpp"
#include "files/files.hpp"

namespace powerprefill {

// What tells files apart, however they are named. Of a name that no file has yet: its folder, and
// the name in it.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::string name;

  bool operator==(const FileIdentity&) const = default;
};

// What the path of an output stands for.
struct OutputTarget {
  enum class Kind {
    file,    // is there, or will be
    stream,  // a pipe, a terminal, /dev/null: is written to as it is
    other,   // a folder, a disk, a socket: is no output
  };
  Kind kind = Kind::file;
  bool exists = false;
  bool is_shared = false;  // a terminal, /dev/null: writers do not meet there
  // Of the file, behind all links; the last of them may lead to no file yet.
  std::filesystem::path path;
  int descriptor = -1;  // of this process, that the path names, as /dev/stdout does
  std::optional<FileIdentity> identity;  // none without a folder

  // Throws Error: storage when the path cannot be looked at, usage when it leads to a file that has
  // lost its name.
  static OutputTarget of(const std::filesystem::path& path);
};

// nullopt when it cannot be looked at.
std::optional<FileIdentity> identity_of(const std::filesystem::path& path);
std::optional<FileIdentity> identity_of(int descriptor);

// Suffixes of temporary names.
inline constexpr std::string_view kTemporarySuffix = ".tmp";
inline constexpr std::string_view kProbeSuffix = ".probe.tmp";
inline constexpr std::string_view kStructureSuffix = ".structure.tmp";

// Of new files: as the umask has it; and of what will get the mode of the file that it replaces.
inline constexpr unsigned kUsualMode = 0666;
inline constexpr unsigned kPrivateMode = 0600;

// A hidden name beside `target`, which has `number` in it.
std::filesystem::path temporary_name(const std::filesystem::path& target, std::uint64_t number,
                                     std::string_view suffix);

// A new file under a temporary name with a random number. Its lock says that it is in use.
struct TemporaryFile {
  std::uint64_t number;
  std::filesystem::path path;
  FileHandle file;  // named `target` in messages
  LockResult lock;  // held or unsupported

  static std::uint64_t random_number();
  // Throws Error(storage).
  static TemporaryFile make(const std::filesystem::path& target, std::string_view suffix,
                            unsigned mode);
};

// Throws Error(storage) unless the folder of `target` is there; unless files may be made in it.
void require_folder(const std::filesystem::path& target);
void require_writable_folder(const std::filesystem::path& target);

// Whether no file has this name, or one that nobody has locked; it is locked by `keep_locked` then.
bool is_abandoned(const std::filesystem::path& path, FileHandle& keep_locked);

// Removes temporary files beside `target` whose writers are gone.
void remove_stale_temporaries(const std::filesystem::path& target);

// Gives `file`, which is private so far, the mode and the owner of the file that it is to replace,
// as far as this user may.
void take_over_mode(const FileHandle& file, const FileHandle& replaced);

// Of what may not be replaced, and of a rename(2) that failed with `error`.
Error already_there(const std::filesystem::path& path);
Error cannot_rename(const std::filesystem::path& from, const std::filesystem::path& to, int error);

// rename(2) that fails with EEXIST rather than replace `to`. Returns errno, 0 when it is done.
int rename_to_free_name(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace powerprefill
