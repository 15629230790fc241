// tokenizer.model, through the SentencePiece library.
#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <algorithm>
#include <exception>
#include <new>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "files/files.hpp"
#include "json/json.hpp"
#include "text/added_tokens.hpp"
#include "text/backend.hpp"
#include "text/bpe.hpp"
#include "text/file_checks.hpp"
#include "text/unicode/byte_spelling.hpp"

namespace powerprefill::text {

namespace {

using sentencepiece::SentencePieceProcessor;

// Fields of a message that follow it replace its own: normalizer_spec.add_dummy_prefix = false.
constexpr std::string_view kWithoutPrefix("\x1A\x02\x18\x00", 4);

// A message of the library, which may quote bytes of the model.
std::string readable(const std::string& message) {
  return quoted(message, 240);
}

// The library throws what it will for a damaged model.
template <typename Work>
auto guarded(const std::filesystem::path& path, const Work& work) {
  try {
    return work();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(ErrorCode::input,
                fmt::format("{}: the SentencePiece library fails on the model: {}; fetch the "
                            "checkpoint again",
                            path.string(), readable(error.what())));
  }
}

void load(SentencePieceProcessor& model, const std::string& bytes,
          const std::filesystem::path& path) {
  const auto status = model.LoadFromSerializedProto(bytes);
  if (status.ok()) return;
  throw Error(ErrorCode::input,
              fmt::format("{}: is not a SentencePiece model: {}; fetch the checkpoint again",
                          path.string(), readable(status.ToString())));
}

std::string bytes_of(const SentencePieceProcessor& model, int id) {
  const std::string& piece = model.IdToPiece(id);
  if (const auto byte = byte_of_fallback(piece); byte && model.IsByte(id)) {
    return {static_cast<char>(*byte)};
  }
  std::string out;
  for (std::size_t i = 0; i < piece.size();) {
    const bool is_space = std::string_view(piece).substr(i).starts_with(kSpaceMark);
    out += is_space ? ' ' : piece[i];
    i += is_space ? kSpaceMark.size() : 1;
  }
  return out;
}

class SentencePieceTokenizer : public Backend {
 public:
  SentencePieceTokenizer(const std::filesystem::path& path, const TokenizerConfig& config)
      : path_(path) {
    const std::string bytes = read_text_file(path, ErrorCode::input, kLargestTokenizer);
    load(model_, bytes, path);
    // transformers 5 takes its class for Llama as if it said so.
    const bool is_llama =
        config.tokenizer_class.starts_with("LlamaTokenizer") && config.model_type == "llama";
    if (!config.legacy.value_or(!is_llama)) {
      inner_.emplace();
      load(*inner_, bytes + std::string(kWithoutPrefix), path);
    }
    read_pieces();
    add_tokens(config);
    surround(config);
  }

  std::vector<std::int32_t> encode(std::string_view text, SpecialTokens mode) const override {
    const bool is_whole = mode == SpecialTokens::added;
    std::vector<std::int32_t> ids;
    if (is_whole) ids = before_;
    matcher_.run(
        text, mode == SpecialTokens::plain,
        [&](std::string_view section) {
          encode_section(section, section.data() == text.data(), ids);
        },
        [&](const AddedToken& token) { ids.push_back(token.id); });
    if (is_whole) ids.insert(ids.end(), behind_.begin(), behind_.end());
    return ids;
  }

  std::optional<std::int32_t> id_of(std::string_view token) const override {
    const auto found = added_.find(token);
    return found == added_.end() ? piece_of(token) : std::optional(found->second);
  }

  std::int64_t vocabulary() const override {
    return std::max<std::int64_t>(model_.GetPieceSize(),
                                  static_cast<std::int64_t>(texts_->tokens.size()));
  }
  std::shared_ptr<const TokenTexts> texts() const override { return texts_; }

 private:
  std::optional<std::int32_t> piece_of(std::string_view token) const {
    const int id = model_.PieceToId({token.data(), token.size()});
    // Unknown pieces get the id of the one that stands for them.
    if (id < 0 || id >= model_.GetPieceSize() || model_.IdToPiece(id) != token) return std::nullopt;
    return id;
  }

  void read_pieces() {
    for (int id = 0; id < model_.GetPieceSize(); ++id) {
      const bool is_special = model_.IsControl(id) || model_.IsUnknown(id);
      texts_->tokens.push_back({bytes_of(model_, id), !model_.IsUnused(id), is_special});
      if (is_special) {
        tokens_.push_back({.id = id, .content = model_.IdToPiece(id), .special = true});
      }
    }
    // The library puts a space before every text (unless the model says otherwise).
    std::vector<int> ids;
    if (model_.Encode("a", &ids).ok() && !ids.empty()) {
      has_prefix_ = std::string_view(model_.IdToPiece(ids.front())).starts_with(kSpaceMark);
    }
    texts_->spaces_off_start = has_prefix_ ? 1 : 0;
  }

  void add_tokens(TokenizerConfig config) {
    // There is no normalised text to look for them in.
    for (AddedToken& token : config.added) token.normalized = false;
    merge_added_tokens(
        tokens_, config, model_.GetPieceSize(),
        [&](std::string_view token) { return piece_of(token); }, notes_);
    for (const AddedToken& token : tokens_) {
      check_added_token(token.content, path_.string());
      added_.emplace(token.content, token.id);
      const auto place = static_cast<std::size_t>(token.id);
      if (place >= texts_->tokens.size()) texts_->tokens.resize(place + 1);
      if (!texts_->tokens[place].exists) texts_->tokens[place] = {token.content, true, false};
      texts_->tokens[place].special = token.special;
    }
    matcher_ = TokenMatcher(tokens_);
  }

  void surround(const TokenizerConfig& config) {
    const auto put = [&](std::vector<std::int32_t>& ids, const std::optional<std::string>& name,
                         int id_of_model) {
      const auto id = name ? id_of(*name) : std::nullopt;
      if (id || id_of_model >= 0) ids.push_back(id ? *id : id_of_model);
    };
    if (config.adds_begin.value_or(true)) put(before_, config.begin, model_.bos_id());
    if (config.adds_end.value_or(false)) put(behind_, config.end, model_.eos_id());
    if (!config.adds_begin && !before_.empty()) {
      notes_.emplace_back(
          "nothing beside tokenizer.model says add_bos_token; the token that begins a text is put, "
          "as transformers 4 does and transformers 5 does not");
    }
  }

  void encode_section(std::string_view section, bool is_first,
                      std::vector<std::int32_t>& ids) const {
    const SentencePieceProcessor* model = &model_;
    if (inner_ && has_prefix_) {
      // One space begins the text, be it the library's or its own; the other sections have theirs.
      const std::size_t own = section.starts_with(' ')          ? 1
                              : section.starts_with(kSpaceMark) ? kSpaceMark.size()
                                                                : 0;
      if (is_first && own < section.size()) {
        section.remove_prefix(own);
      } else {
        model = &*inner_;
      }
    }
    std::vector<int> some;
    guarded(path_, [&] {
      const auto status = model->Encode({section.data(), section.size()}, &some);
      if (!status.ok()) {
        throw Error(ErrorCode::input, fmt::format("SentencePiece cannot encode {} bytes: {}",
                                                  section.size(), readable(status.ToString())));
      }
    });
    ids.insert(ids.end(), some.begin(), some.end());
  }

  std::filesystem::path path_;
  SentencePieceProcessor model_;
  std::optional<SentencePieceProcessor> inner_;  // without a space before a text
  bool has_prefix_ = false;
  std::vector<AddedToken> tokens_;
  Vocabulary added_;
  TokenMatcher matcher_;
  std::vector<std::int32_t> before_;
  std::vector<std::int32_t> behind_;
  std::shared_ptr<TokenTexts> texts_ = std::make_shared<TokenTexts>();
};

}  // namespace

std::unique_ptr<Backend> load_sentencepiece(const std::filesystem::path& path,
                                            const TokenizerConfig& config) {
  return guarded(path, [&] { return std::make_unique<SentencePieceTokenizer>(path, config); });
}

}  // namespace powerprefill::text
