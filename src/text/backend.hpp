// What the formats of tokenizers have in common.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "powerprefill/tokenizer.hpp"
#include "text/detokenizer.hpp"
#include "text/tokenizer_config.hpp"

namespace powerprefill::text {

class Backend {
 public:
  virtual ~Backend() = default;
  // `text` is well-formed UTF-8.
  virtual std::vector<std::int32_t> encode(std::string_view text, SpecialTokens mode) const = 0;
  virtual std::optional<std::int32_t> id_of(std::string_view token) const = 0;
  virtual std::int64_t vocabulary() const = 0;
  virtual std::shared_ptr<const TokenTexts> texts() const = 0;

  const Notes& notes() const noexcept { return notes_; }

 protected:
  Notes notes_;
};

// Both throw Error(input) that names the file, and what is not supported or wrong in it.
std::unique_ptr<Backend> load_tokenizer_json(const std::filesystem::path& path,
                                             const TokenizerConfig& config);
std::unique_ptr<Backend> load_sentencepiece(const std::filesystem::path& path,
                                            const TokenizerConfig& config);

}  // namespace powerprefill::text
