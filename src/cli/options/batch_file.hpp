// Many prompts in one file: JSON Lines.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/options/prompt.hpp"
#include "powerprefill/error.hpp"
#include "report/log.hpp"

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
  static std::vector<std::int32_t> ids_of(const Entry& entry, LazyTokenizer& tokenizer,
                                          SpecialTokens mode);

 private:
  std::vector<Entry> entries_;
};

// The prompts of a batch file on all ranks, which rank 0 alone reads. Its calls are collective.
class PromptBatch {
 public:
  // Throws agreed Errors as BatchFile does.
  PromptBatch(const mpi::Communicator& world, std::filesystem::path path);

  // The id of every line, on rank 0; none elsewhere.
  std::vector<std::string> ids() const;

  // body(id, tokens) for one line after the other. A line that fails by itself, its prompt or its
  // output being bad (Error(input or cache)), keeps no other from being done: what to throw for
  // such lines in the end, with the code of the first, is returned. Any other failure is thrown at
  // once. Errors name the file and the line.
  using Body = std::function<void(const std::string& id, std::vector<std::int32_t> tokens)>;
  [[nodiscard]] std::optional<Error> for_each(LazyTokenizer& tokenizer, SpecialTokens mode,
                                              const Log& log, const Body& body) const;

 private:
  const mpi::Communicator& world_;
  std::filesystem::path path_;
  std::optional<BatchFile> file_;  // on rank 0
  std::uint64_t count_ = 0;
};

}  // namespace powerprefill::cli
