// The files of a command: none that it writes may be one that it reads, or writes as something
// else.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/options/prompt.hpp"
#include "files/output_target.hpp"

namespace powerprefill::cli {

// For rank 0 alone, before anything is written. Files are the same when device and inode are,
// however they are named.
class CommandFiles {
 public:
  // `role` is how messages call the file. An empty path is none.
  CommandFiles& reads(const std::string& role, const std::filesystem::path& path);
  // What is read of a checkpoint folder, which may have other files.
  CommandFiles& reads_model(const std::filesystem::path& folder);
  CommandFiles& reads_prompt(const PromptArguments& prompt);
  // The list of --attention mask:FILE; nothing for other patterns.
  CommandFiles& reads_mask(const std::string& attention);
  CommandFiles& writes(const std::string& role, const std::filesystem::path& path);

  // Throws Error(usage) that names both roles of a file. Streams that are not pipes may have
  // several roles. A file that standard output or standard error goes to counts as an output.
  void check() const;

 private:
  struct File {
    std::string role;
    std::filesystem::path path;
    FileIdentity identity;
    bool is_shared = false;  // a terminal, /dev/null
    bool is_open = false;    // a descriptor of this process, which others may share
  };

  static void require_different(const File& output, const File& other);

  std::vector<File> inputs_;
  std::vector<File> outputs_;
};

}  // namespace powerprefill::cli
