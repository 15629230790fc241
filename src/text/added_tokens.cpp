#include "text/added_tokens.hpp"

#include <algorithm>

#include "text/unicode/code_points.hpp"
#include "text/unicode/utf8.hpp"

namespace powerprefill::text {

namespace {

bool is_word(char32_t character) {
  return rust_word_characters().contains(character);
}

bool touches_word(std::string_view text, std::size_t begin, std::size_t end) {
  const bool before = begin > 0 && is_word(scan_at(text, start_of_last(text, begin)).value);
  return before || (end < text.size() && is_word(scan_at(text, end).value));
}

}  // namespace

TokenMatcher::TokenMatcher(std::vector<AddedToken> tokens) {
  for (AddedToken& token : tokens) {
    if (token.content.empty()) continue;
    if (trie_.empty()) trie_.emplace_back();
    std::size_t node = 0;
    for (const char c : token.content) {
      auto& next = trie_[node].next;
      auto place = std::lower_bound(next.begin(), next.end(), std::pair(c, std::int32_t{-1}));
      if (place == next.end() || place->first != c) {
        place = next.emplace(place, c, static_cast<std::int32_t>(trie_.size()));
        node = trie_.size();
        trie_.emplace_back();
      } else {
        node = static_cast<std::size_t>(place->second);
      }
    }
    trie_[node].token = static_cast<std::int32_t>(tokens_.size());
    tokens_.push_back(std::move(token));
  }
}

std::int32_t TokenMatcher::longest_at(std::string_view text, std::size_t position) const {
  std::int32_t longest = -1;
  const Node* node = trie_.data();
  for (std::size_t i = position; i < text.size(); ++i) {
    const auto place = std::lower_bound(node->next.begin(), node->next.end(),
                                        std::pair(text[i], std::int32_t{-1}));
    if (place == node->next.end() || place->first != text[i]) break;
    node = &trie_[static_cast<std::size_t>(place->second)];
    if (node->token >= 0) longest = node->token;
  }
  return longest;
}

void TokenMatcher::run(std::string_view text, bool plain_special,
                       const std::function<void(std::string_view)>& on_text,
                       const std::function<void(const AddedToken&)>& on_token) const {
  std::size_t done = 0;
  std::size_t i = 0;
  while (!tokens_.empty() && i < text.size()) {
    const std::int32_t number = longest_at(text, i);
    if (number < 0) {
      ++i;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<std::size_t>(number)];
    std::size_t begin = i;
    std::size_t end = i + token.content.size();
    i = end;  // also where the token does not count: what it covers is not looked at again
    if (plain_special && token.special) continue;
    if (token.single_word && touches_word(text, begin, end)) continue;
    while (token.left_strip && begin > done) {
      const std::size_t start = start_of_last(text, begin);
      if (!white_space().contains(scan_at(text, start).value)) break;
      begin = start;
    }
    while (token.right_strip && end < text.size()) {
      const Scan scan = scan_at(text, end);
      if (!white_space().contains(scan.value)) break;
      end += scan.bytes;
    }
    begin = std::max(begin, done);
    if (begin > done) on_text(text.substr(done, begin - done));
    on_token(token);
    done = std::max(done, end);
  }
  if (done < text.size()) on_text(text.substr(done));
}

}  // namespace powerprefill::text
