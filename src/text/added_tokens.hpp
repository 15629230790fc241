// Tokens that are looked for in the text itself, before it is cut into words: the `added_tokens` of
// tokenizer.json, such as "<|im_start|>".
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace powerprefill::text {

struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool special = false;      // marks structure: left out of decoded text, plain text when raw
  bool single_word = false;  // only where no word character touches it
  bool left_strip = false;   // takes the white space before it along
  bool right_strip = false;  // and behind it
  bool normalized = false;   // looked for in the normalised text
};

// Finds tokens in a text: the leftmost, and of those that begin there the longest.
class TokenMatcher {
 public:
  // Tokens with no content are left out.
  explicit TokenMatcher(std::vector<AddedToken> tokens = {});

  bool empty() const noexcept { return tokens_.empty(); }

  // Cuts `text` into tokens and what is between them, and calls `on_text` (never empty) and
  // `on_token` in order. With `plain_special`, special tokens are text.
  void run(std::string_view text, bool plain_special,
           const std::function<void(std::string_view)>& on_text,
           const std::function<void(const AddedToken&)>& on_token) const;

 private:
  // The number of the longest token at `position`, or -1.
  std::int32_t longest_at(std::string_view text, std::size_t position) const;

  struct Node {
    std::vector<std::pair<char, std::int32_t>> next;  // by byte, sorted
    std::int32_t token = -1;                          // that ends here
  };
  std::vector<AddedToken> tokens_;
  std::vector<Node> trie_;
};

}  // namespace powerprefill::text
