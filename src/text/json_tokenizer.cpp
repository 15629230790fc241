// tokenizer.json of Hugging Face tokenizers: special tokens are found, what is between them is
// normalised, cut into words, and merged.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "json/json.hpp"
#include "text/added_tokens.hpp"
#include "text/backend.hpp"
#include "text/bpe.hpp"
#include "text/detokenizer.hpp"
#include "text/file_checks.hpp"
#include "text/normalizer.hpp"
#include "text/post_processor.hpp"
#include "text/pre_tokenizer.hpp"

namespace powerprefill::text {

namespace {

template <typename Part>
Part part_or_none(const JsonFields& file, const std::string& key) {
  return file.find(key) == nullptr ? Part() : Part(file.need_fields(key));
}

std::vector<AddedToken> read_added_tokens(const JsonFields& file, const Vocabulary& vocabulary) {
  std::vector<AddedToken> tokens;
  if (file.find("added_tokens") == nullptr) return tokens;
  for (const JsonFields& entry : file.need_objects("added_tokens")) {
    AddedToken token = read_added_token(entry, token_id(entry.need("id"), entry));
    const auto same = vocabulary.find(token.content);
    if (same != vocabulary.end() && same->second != token.id) {
      fail(entry, fmt::format("`{}` has id {} here and {} in the vocabulary", token.content,
                              token.id, same->second));
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

class JsonTokenizer : public Backend {
 public:
  JsonTokenizer(const JsonFields& file, const TokenizerConfig& config)
      : normalizer_(part_or_none<Normalizer>(file, "normalizer")),
        pre_tokenizer_(part_or_none<PreTokenizer>(file, "pre_tokenizer")),
        model_(file.need_fields("model"), pre_tokenizer_.is_byte_level()),
        post_processor_(part_or_none<PostProcessor>(file, "post_processor")) {
    const Vocabulary& vocabulary = model_.vocabulary();
    std::vector<AddedToken> added = read_added_tokens(file, vocabulary);
    vocabulary_ = static_cast<std::int64_t>(vocabulary.size());
    const auto id_in_model = [&](std::string_view token) {
      const auto found = vocabulary.find(token);
      return found == vocabulary.end() ? std::nullopt : std::optional(found->second);
    };
    merge_added_tokens(added, config, vocabulary_, id_in_model, notes_);
    std::vector<AddedToken> plain;
    std::vector<AddedToken> normalized;
    RegexScratch scratch;
    for (AddedToken token : added) {
      if (!model_.vocabulary().contains(token.content)) {
        vocabulary_ += added_.emplace(token.content, token.id).second ? 1 : 0;
      }
      check_added_token(token.content, file.where());
      if (token.normalized) token.content = normalizer_(token.content, scratch);
      (token.normalized ? normalized : plain).push_back(std::move(token));
    }
    plain_ = TokenMatcher(std::move(plain));
    normalized_ = TokenMatcher(std::move(normalized));
    set_texts(part_or_none<JsonDecoder>(file, "decoder"), added);
    post_processor_.apply_flags(
        config, [&](std::string_view token) { return id_of(token); }, notes_);
  }

  std::vector<std::int32_t> encode(std::string_view text, SpecialTokens mode) const override {
    const bool is_whole = mode == SpecialTokens::added;
    const bool plain = mode == SpecialTokens::plain;
    std::vector<std::int32_t> ids;
    ids.reserve(text.size() / 4 + 16);
    if (is_whole) ids = post_processor_.before;
    RegexScratch scratch;
    WordCache cache;
    const auto on_token = [&](const AddedToken& token) { ids.push_back(token.id); };
    const auto on_word = [&](std::string_view word) { model_.encode(word, ids, cache); };
    plain_.run(
        text, plain,
        [&](std::string_view section) {
          const bool opens = section.data() == text.data();
          std::string changed;
          std::string_view normal = section;
          if (!normalizer_.is_identity()) {
            changed = normalizer_(std::string(section), scratch);
            normal = changed;
          }
          normalized_.run(
              normal, plain,
              [&](std::string_view words) {
                const bool first = opens && words.data() == normal.data();
                pre_tokenizer_.run(words, first, scratch, on_word);
              },
              on_token);
        },
        on_token);
    if (is_whole) {
      ids.insert(ids.end(), post_processor_.behind.begin(), post_processor_.behind.end());
    }
    return ids;
  }

  std::optional<std::int32_t> id_of(std::string_view token) const override {
    for (const Vocabulary* tokens : {&added_, &model_.vocabulary()}) {
      const auto found = tokens->find(token);
      if (found != tokens->end()) return found->second;
    }
    return std::nullopt;
  }

  std::int64_t vocabulary() const override { return vocabulary_; }
  std::shared_ptr<const TokenTexts> texts() const override { return texts_; }

 private:
  void set_texts(const JsonDecoder& decoder, const std::vector<AddedToken>& added) {
    auto texts = std::make_shared<TokenTexts>();
    const auto put = [&](const std::string& token, std::int32_t id, bool special) {
      const auto place = static_cast<std::size_t>(id);
      if (place >= texts->tokens.size()) texts->tokens.resize(place + 1);
      texts->tokens[place] = {decoder.bytes_of(token), true, special};
    };
    for (const auto& [token, id] : model_.vocabulary()) put(token, id, false);
    for (const AddedToken& token : added) put(token.content, token.id, token.special);
    decoder.set_start(*texts);
    texts_ = std::move(texts);
  }

  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  Bpe model_;
  PostProcessor post_processor_;
  Vocabulary added_;         // those that the model's vocabulary does not have
  TokenMatcher plain_;       // looked for in the text as it is
  TokenMatcher normalized_;  // looked for in the normalised text
  std::int64_t vocabulary_ = 0;
  std::shared_ptr<const TokenTexts> texts_;
};

}  // namespace

std::unique_ptr<Backend> load_tokenizer_json(const std::filesystem::path& path,
                                             const TokenizerConfig& config) {
  const nlohmann::json json = read_json_file(path, kLargestTokenizer);
  return std::make_unique<JsonTokenizer>(tokenizer_fields(json, path.string()), config);
}

}  // namespace powerprefill::text
