#include "text/token_texts.hpp"

#include <string>
#include <utility>

namespace powerprefill::text {

std::string TokenReader::next(std::int32_t id) {
  if (id < 0 || static_cast<std::size_t>(id) >= texts_->tokens.size()) return {};
  const TokenTexts::Token& token = texts_->tokens[static_cast<std::size_t>(id)];
  if (!token.exists || (skip_special_ && token.special)) return {};
  const bool is_first = std::exchange(is_first_, false);
  if (is_first && texts_->first_token_without_spaces) {
    std::string bytes = token.bytes;
    std::erase(bytes, ' ');
    return stream_.feed(bytes);
  }
  if (!is_first && texts_->joined_by_spaces) return stream_.feed(' ' + token.bytes);
  std::string_view bytes = token.bytes;
  while (spaces_off_ > 0 && !bytes.empty()) {
    if (!bytes.starts_with(' ')) {
      spaces_off_ = 0;
      break;
    }
    bytes.remove_prefix(1);
    --spaces_off_;
  }
  return stream_.feed(bytes);
}

}  // namespace powerprefill::text
