#include "text/detokenizer.hpp"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "text/file_checks.hpp"
#include "text/unicode/byte_spelling.hpp"

namespace powerprefill::text {

namespace {

// `size`: bytes of the token before any step; steps that are small each could double it each.
std::string replace_all(const std::string& text, const std::string& from, const std::string& to,
                        std::size_t size) {
  std::string out;
  std::size_t done = 0;
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, done)) {
    out.append(text, done, at - done);
    out += to;
    done = at + from.size();
    check_growth(size, out.size(), "the decoder");
  }
  return out.append(text, done);
}

}  // namespace

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

JsonDecoder::JsonDecoder(const JsonFields& description) : joined_by_spaces_(false) {
  add(description);
}

void JsonDecoder::add(const JsonFields& description) {
  const std::string type = description.need_text("type");
  const auto count = [&](const std::string& key) {
    return description.find(key) == nullptr ? 0 : token_id(description.need(key), description);
  };
  if (type == "Sequence") {
    for (const JsonFields& part : description.need_objects("decoders")) add(part);
  } else if (type == "Fuse") {
    fused_ = true;
  } else if (type == "Strip") {
    const bool usual = fused_ && description.need_text("content") == " " && count("stop") == 0;
    if (!usual) unsupported(description, "a `Strip` of other than spaces at the text's start");
    spaces_off_start_ += count("start");
  } else if (fused_) {
    unsupported(description, fmt::format("the decoder `{}` behind `Fuse`", type));
  } else if (type == "ByteLevel") {
    steps_.push_back({Step::Kind::byte_level, {}, {}});
  } else if (type == "ByteFallback") {
    steps_.push_back({Step::Kind::byte_fallback, {}, {}});
  } else if (type == "Replace") {
    const JsonFields pattern = description.need_fields("pattern");
    if (pattern.find("String") == nullptr) unsupported(description, "a `Replace` of a pattern");
    const std::string from = pattern.need_text("String");
    if (from.empty()) fail(description, "the pattern is empty");
    steps_.push_back({Step::Kind::replace, from, description.need_text("content")});
  } else if (type == "Metaspace") {
    const bool adds = description.boolean("add_prefix_space").value_or(true);
    const std::string scheme =
        description.text("prepend_scheme").value_or(adds ? "always" : "never");
    first_token_without_spaces_ = scheme != "never";
    const std::string space = description.need_text("replacement");
    if (space.empty()) fail(description, "the replacement is empty");
    steps_.push_back({Step::Kind::replace, space, " "});
  } else {
    unsupported(description, fmt::format("the decoder `{}`", type));
  }
  check_steps(steps_.size(), description);
}

std::string JsonDecoder::bytes_of(std::string token) const {
  const std::size_t size = token.size();
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Step::Kind::byte_level: {
        // A token with characters that stand for no byte is text itself.
        auto bytes = bytes_of_spelling(token);
        if (bytes) token = std::move(*bytes);
        break;
      }
      case Step::Kind::byte_fallback:
        if (const auto byte = byte_of_fallback(token)) token.assign(1, static_cast<char>(*byte));
        break;
      case Step::Kind::replace:
        token = replace_all(token, step.from, step.to, size);
        break;
    }
  }
  return token;
}

void JsonDecoder::set_start(TokenTexts& texts) const {
  texts.joined_by_spaces = joined_by_spaces_;
  texts.spaces_off_start = spaces_off_start_;
  texts.first_token_without_spaces = first_token_without_spaces_;
}

}  // namespace powerprefill::text
