#include "cli/options/prompt.hpp"

#include "cli/options/token_file.hpp"
#include "files/read_input.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill::cli {

namespace {

constexpr std::int64_t kLargestText = std::int64_t{1} << 34;

std::string read_prompt(const std::string& file) {
  InputStream input = file == "-" ? InputStream::standard_input(ErrorCode::input)
                                  : InputStream::open(file, ErrorCode::input);
  refuse_utf16(input);
  return read_rest(input, kLargestText);
}

}  // namespace

const Tokenizer& LazyTokenizer::get() {
  if (!tokenizer_) {
    tokenizer_ = Tokenizer::load(folder_);
    for (const std::string& note : tokenizer_->notes()) log_.note(note);
  }
  return *tokenizer_;
}

CLI::Option_group* PromptArguments::add_to(CLI::App& app, bool whole_prompt) {
  CLI::Option_group* group = app.add_option_group(whole_prompt ? "Prompt" : "New input");
  group->add_option("--prompt", text,
                    whole_prompt ? "The prompt as text"
                                 : "New input that continues the cached context first, as text");
  if (whole_prompt) {
    group->add_option("--prompt-file", text_file,
                      "The prompt as a text file in UTF-8; -: standard input");
  }
  group->add_option(
      "--tokens", tokens,
      whole_prompt ? "The prompt: decimal token ids, a .npy file, or HDF5 with a dataset `tokens`"
                   : "Likewise, a file of token ids as for prefill");
  app.add_flag("--raw", raw,
               whole_prompt
                   ? "Special tokens in a text are text like any other, and none are added"
                   : "Special tokens are text like any other in --prompt, and part of the output");
  return group;
}

std::vector<std::int32_t> PromptArguments::resolve(const mpi::Communicator& world,
                                                   LazyTokenizer& tokenizer, bool continues) const {
  return share_ids(world, [&] {
    if (!tokens.empty()) return read_token_file(tokens);
    // Before the text, which may be long, or be waited for.
    const Tokenizer& encoder = tokenizer.get();
    return encoder.encode(text ? *text : read_prompt(text_file), mode(continues));
  });
}

}  // namespace powerprefill::cli
