// What stands beside a tokenizer: tokenizer_config.json, special_tokens_map.json and
// added_tokens.json, as transformers 5 reads them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "json/json_fields.hpp"
#include "text/added_tokens.hpp"

namespace powerprefill::text {

// What the sources of a tokenizer disagree about, and which of them was heeded: for the user.
using Notes = std::vector<std::string>;

struct TokenizerConfig {
  // The files of `folder`, of which none need be there. Throws Error(input) that names the file.
  static TokenizerConfig read(const std::filesystem::path& folder);

  std::optional<bool> adds_begin;    // add_bos_token
  std::optional<bool> adds_end;      // add_eos_token
  std::optional<std::string> begin;  // bos_token
  std::optional<std::string> end;    // eos_token
  std::optional<bool> legacy;        // of a tokenizer.model: every section begins with a space
  std::string tokenizer_class;
  std::string model_type;            // of config.json
  std::vector<AddedToken> added;     // by id
  std::vector<std::string> special;  // tokens that some key names as special
};

// An added token as tokenizer.json and tokenizer_config.json describe it.
AddedToken read_added_token(const JsonFields& entry, std::int32_t id);

// The id that the model's vocabulary has for a token.
using IdOf = std::function<std::optional<std::int32_t>(std::string_view token)>;

// Adds the tokens of `config` to `added`. How a token is found that both have, the configuration
// says. One that is new gets its id of the vocabulary, or the next one behind all: `vocabulary` is
// the number of tokens that the model has.
void merge_added_tokens(std::vector<AddedToken>& added, const TokenizerConfig& config,
                        std::int64_t vocabulary, const IdOf& id_of, Notes& notes);

}  // namespace powerprefill::text
