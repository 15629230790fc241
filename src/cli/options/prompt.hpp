// Where a prompt comes from: text, a file of text, or a file of token ids.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "mpi/communicator.hpp"
#include "powerprefill/tokenizer.hpp"
#include "report/log.hpp"

namespace powerprefill::cli {

// The checkpoint's tokenizer, loaded when it is first needed; for rank 0 alone. What the user
// should know about it goes to the log, which outlives this.
class LazyTokenizer {
 public:
  LazyTokenizer(std::filesystem::path folder, const Log& log)
      : folder_(std::move(folder)), log_(log) {}
  // Throws Error(input) as Tokenizer::load() does.
  const Tokenizer& get();

 private:
  std::filesystem::path folder_;
  const Log& log_;
  std::optional<Tokenizer> tokenizer_;
};

struct PromptArguments {
  std::optional<std::string> text;
  std::string text_file;  // "-": standard input
  std::string tokens;
  bool raw = false;  // no special tokens are recognised in the text, or added to it

  // Adds --prompt, --prompt-file (for a whole prompt only), --tokens and --raw. At most one source
  // may be given; the group of them is returned.
  CLI::Option_group* add_to(CLI::App& app, bool whole_prompt);

  SpecialTokens mode(bool continues = false) const {
    if (raw) return SpecialTokens::plain;
    return continues ? SpecialTokens::recognised : SpecialTokens::added;
  }
  bool is_given() const { return text || !text_file.empty() || !tokens.empty(); }

  // Collective: rank 0 reads and encodes, the others get a copy of the ids. `continues`: the text
  // goes on behind another, so that nothing is put before it. Throws agreed Errors.
  std::vector<std::int32_t> resolve(const mpi::Communicator& world, LazyTokenizer& tokenizer,
                                    bool continues) const;
};

}  // namespace powerprefill::cli
