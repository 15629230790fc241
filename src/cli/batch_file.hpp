// Many prompts in one file: JSON Lines.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/prompt.hpp"

namespace powerprefill::cli {

// One JSON object per line, {"id": "name", "prompt": "text"} or {"id": "name", "tokens": [1, 2]}.
// Without an id, the line's number is it. Empty lines are left out. For rank 0 alone.
class BatchFile {
 public:
  struct Entry {
    std::string id;           // a file name: letters, digits, '.', '_' and '-', up to 200 of them
    std::string line;         // as in the file
    std::int64_t number = 0;  // of the line, from 1
  };

  // Checks every line. Throws Error(input) that names the file and the line: no object, both or
  // neither of prompt and tokens, an id that is no file name or was there before.
  explicit BatchFile(const std::filesystem::path& path);

  const std::vector<Entry>& entries() const noexcept { return entries_; }
  // The token ids of an entry.
  std::vector<std::int32_t> ids_of(const Entry& entry, LazyTokenizer& tokenizer,
                                   SpecialTokens mode) const;

 private:
  std::vector<Entry> entries_;
};

}  // namespace powerprefill::cli
