// Which tokens are put around a text: the `post_processor` of tokenizer.json, or the flags of
// tokenizer_config.json.
#pragma once

#include <cstdint>
#include <vector>

#include "json/json_fields.hpp"
#include "text/tokenizer_config.hpp"

namespace powerprefill::text {

struct PostProcessor {
  std::vector<std::int32_t> before;  // e.g. the token that begins a text
  std::vector<std::int32_t> behind;
  bool has_template = false;  // it says what is put around a text, be it nothing

  PostProcessor() = default;
  // TemplateProcessing (of one text), ByteLevel, and sequences of them. Throws Error(input) that
  // names what is not supported.
  explicit PostProcessor(const JsonFields& description) { add(description); }

  // Heeds add_bos_token and add_eos_token where there is no template, which transformers 5 does
  // not; notes what is not as they say. `id_of` knows every token, added ones included.
  void apply_flags(const TokenizerConfig& config, const IdOf& id_of, Notes& notes);

 private:
  void add(const JsonFields& description);
  void add_template(const JsonFields& description);
};

}  // namespace powerprefill::text
