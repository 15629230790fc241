#include "cli/options/command_files.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <system_error>
#include <utility>

#include "cli/options/attention_options.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill::cli {

namespace {

bool is_regular(int descriptor) {
  struct stat status {};
  return ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
}

}  // namespace

CommandFiles& CommandFiles::reads(const std::string& role, const std::filesystem::path& path) {
  if (path.empty()) return *this;
  const std::optional<FileIdentity> identity = identity_of(path);
  if (identity) inputs_.push_back({.role = role, .path = path, .identity = *identity});
  return *this;
}

CommandFiles& CommandFiles::reads_model(const std::filesystem::path& folder) {
  for (const char* name :
       {"config.json", "generation_config.json", "model.safetensors",
        "model.safetensors.index.json", "tokenizer.json", "tokenizer.model",
        "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}) {
    reads("the model's", folder / name);
  }
  std::error_code unclear;
  for (std::filesystem::directory_iterator it(folder, unclear), end; !unclear && it != end;
       it.increment(unclear)) {
    if (it->path().extension() == ".safetensors") reads("the model's", it->path());
  }
  return *this;
}

CommandFiles& CommandFiles::reads_prompt(const PromptArguments& prompt) {
  reads("--tokens", prompt.tokens);
  return reads("--prompt-file", prompt.text_file == "-" ? "/dev/stdin" : prompt.text_file);
}

CommandFiles& CommandFiles::reads_mask(const std::string& attention) {
  return reads("--attention", mask_file_of(attention));
}

CommandFiles& CommandFiles::writes(const std::string& role, const std::filesystem::path& path) {
  if (path.empty()) return *this;
  const OutputTarget target = OutputTarget::of(path);
  if (!target.identity) return *this;  // there is no such folder, which is told when it is opened
  outputs_.push_back({.role = role,
                      .path = path,
                      .identity = *target.identity,
                      .is_shared = target.is_shared,
                      .is_open = target.descriptor >= 0});
  return *this;
}

void CommandFiles::require_different(const File& output, const File& other) {
  if (output.is_shared || output.identity != other.identity) return;
  throw Error(ErrorCode::usage,
              fmt::format("{} {} is the same file as {} {}; choose another output", output.role,
                          output.path.string(), other.role, other.path.string()));
}

void CommandFiles::check() const {
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    for (const File& input : inputs_) require_different(outputs_[i], input);
    for (std::size_t j = 0; j < i; ++j) require_different(outputs_[i], outputs_[j]);
  }
  const std::pair<int, const char*> streams[] = {{STDOUT_FILENO, "standard output"},
                                                 {STDERR_FILENO, "standard error"}};
  for (const auto& [descriptor, role] : streams) {
    const auto identity = identity_of(descriptor);
    if (!identity || !is_regular(descriptor)) continue;
    const File stream = {.role = "the file of", .path = role, .identity = *identity};
    for (const File& input : inputs_) require_different(stream, input);
    for (const File& output : outputs_) {
      if (!output.is_open) require_different(output, stream);
    }
  }
}

}  // namespace powerprefill::cli
