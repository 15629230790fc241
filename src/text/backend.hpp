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
#include "text/token_texts.hpp"

namespace powerprefill::text {

class Backend {
 public:
  virtual ~Backend() = default;
  // `text` is well-formed UTF-8.
  virtual std::vector<std::int32_t> encode(std::string_view text, SpecialTokens mode) const = 0;
  virtual std::optional<std::int32_t> id_of(std::string_view token) const = 0;
  virtual std::int64_t vocabulary() const = 0;
  virtual std::shared_ptr<const TokenTexts> texts() const = 0;
};

// Both throw Error(input) that names the file, and what is not supported or wrong in it.
std::unique_ptr<Backend> load_tokenizer_json(const std::filesystem::path& path);
// `config` is the checkpoint's tokenizer_config.json, which need not exist.
std::unique_ptr<Backend> load_sentencepiece(const std::filesystem::path& path,
                                            const std::filesystem::path& config);

}  // namespace powerprefill::text
