// Text to token ids and back, as the checkpoint's own tokenizer does it.
//
// Supported are `tokenizer.json` (Hugging Face tokenizers) with byte-pair encoding, over bytes
// (GPT-2, Llama 3, Qwen) or over characters with byte fallback (Llama 2, Mistral), and
// SentencePiece models, `tokenizer.model`. Beside them tokenizer_config.json is read, and, where it
// has no `added_tokens_decoder`, special_tokens_map.json and added_tokens.json: added tokens, which
// tokens are special, add_bos_token, add_eos_token and legacy. What a file asks for and
// powerprefill does not have is refused by name, so that ids are those of the reference
// implementation or there are none.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "powerprefill/error.hpp"

namespace powerprefill {

namespace text {
class Backend;
class TokenReader;
}  // namespace text

// What encoding does about special tokens, such as "<|im_start|>".
enum class SpecialTokens {
  added,       // recognised in the text, and those put around it that the checkpoint asks for: a
               // whole prompt, as transformers encodes it by default
  recognised,  // recognised in the text, none added: text that continues other text
  plain,       // text like any other, none added: for text that is not to be trusted (raw)
};

// Immutable: any number of threads may use one. Copies share their data.
class Tokenizer {
 public:
  // Whether `folder` has a tokenizer that load() would read.
  static bool exists(const std::filesystem::path& folder);

  // Reads `folder`/tokenizer.json, else `folder`/tokenizer.model. Throws Error(input) when there is
  // none, and when it is damaged or asks for something that is not supported, which is named.
  static Tokenizer load(const std::filesystem::path& folder);

  // Takes O(n log n) time for any text of n bytes; tens of MB/s for usual ones over bytes. Throws
  // Error(input) that names the first byte which is not UTF-8.
  std::vector<std::int32_t> encode(std::string_view text,
                                   SpecialTokens mode = SpecialTokens::added) const;

  // The text of `ids`: well-formed UTF-8, with U+FFFD for bytes that are none. Ids that have no
  // token read as nothing. `skip_special` leaves special tokens out.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special = true) const;

  // What the checkpoint's files disagree about, and which of them is heeded: sentences for the
  // user, who may have wanted the other. Empty for most checkpoints.
  const std::vector<std::string>& notes() const;

  // Number of tokens, added ones included. The model's own vocabulary may be larger (padding).
  std::int64_t vocabulary() const;
  // The id of a token as the file spells it (a byte-level "Ġthe", or "<|im_end|>").
  std::optional<std::int32_t> id_of(std::string_view token) const;

 private:
  friend class StreamingDecoder;
  explicit Tokenizer(std::shared_ptr<const text::Backend> backend);
  std::shared_ptr<const text::Backend> backend_;
};

// Decodes ids as they come. All its text together is what Tokenizer::decode() makes of all ids.
class StreamingDecoder {
 public:
  explicit StreamingDecoder(const Tokenizer& tokenizer, bool skip_special = true);
  ~StreamingDecoder();
  StreamingDecoder(StreamingDecoder&&) noexcept;
  StreamingDecoder& operator=(StreamingDecoder&&) noexcept;

  // The text that `id` completes, which may be empty: bytes of an unfinished character are held
  // back until the rest of it comes.
  std::string next(std::int32_t id);
  // What was held back at the end: U+FFFD for an unfinished character.
  std::string finish();

 private:
  std::unique_ptr<text::TokenReader> reader_;
};

}  // namespace powerprefill
