// How a text is cut into words before merging: the `pre_tokenizer` of tokenizer.json.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "json/json_fields.hpp"
#include "text/regex/regex.hpp"

namespace powerprefill::text {

// Split, ByteLevel, Digits, Metaspace, Punctuation, Whitespace, WhitespaceSplit, and sequences of
// them. ByteLevel does not spell bytes as characters here: the words are bytes of the text.
class PreTokenizer {
 public:
  // Called for each word; it is valid during the call only.
  using Emit = std::function<void(std::string_view word)>;

  // One word, the whole text.
  PreTokenizer() = default;
  // Throws Error(input) that names what is not supported.
  explicit PreTokenizer(const JsonFields& description);

  // Whether words stand for their bytes, so that the vocabulary spells bytes as characters.
  bool is_byte_level() const noexcept { return byte_level_; }

  // Cuts `text`, which is well-formed UTF-8, into words, in order and none of them empty.
  // `opens_prompt` says that nothing precedes the text.
  void run(std::string_view text, bool opens_prompt, RegexScratch& scratch, const Emit& emit) const;

 private:
  struct Stage;
  void add(const JsonFields& description);
  struct Run;
  void run_from(std::size_t stage, std::string_view text, bool opens_prompt, Run& run) const;

  std::vector<std::shared_ptr<const Stage>> stages_;
  bool byte_level_ = false;
};

}  // namespace powerprefill::text
