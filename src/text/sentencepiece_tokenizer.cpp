// tokenizer.model, through the SentencePiece library.
#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "base/checked.hpp"
#include "base/files.hpp"
#include "text/added_tokens.hpp"
#include "text/backend.hpp"
#include "text/fields.hpp"

namespace powerprefill::text {

namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581, which stands for a space

std::string bytes_of(const sentencepiece::SentencePieceProcessor& model, int id) {
  const std::string& piece = model.IdToPiece(id);
  if (model.IsByte(id)) {
    unsigned byte = 0;
    std::from_chars(piece.data() + 3, piece.data() + piece.size() - 1, byte, 16);
    return {static_cast<char>(byte)};
  }
  std::string out;
  for (std::size_t i = 0; i < piece.size();) {
    const bool is_space = std::string_view(piece).substr(i).starts_with(kSpace);
    out += is_space ? ' ' : piece[i];
    i += is_space ? kSpace.size() : 1;
  }
  return out;
}

class SentencePieceTokenizer : public Backend {
 public:
  SentencePieceTokenizer(const std::filesystem::path& path, bool wants_begin, bool wants_end) {
    const auto status = model_.Load(path.string());
    if (!status.ok()) {
      throw Error(ErrorCode::input,
                  fmt::format("{}: is not a SentencePiece model: {}; fetch the checkpoint again",
                              path.string(), status.ToString()));
    }
    if (wants_begin && model_.bos_id() >= 0) before_.push_back(model_.bos_id());
    if (wants_end && model_.eos_id() >= 0) behind_.push_back(model_.eos_id());
    auto texts = std::make_shared<TokenTexts>();
    std::vector<AddedToken> special;
    for (int id = 0; id < model_.GetPieceSize(); ++id) {
      const bool is_special = model_.IsControl(id) || model_.IsUnknown(id);
      texts->tokens.push_back({bytes_of(model_, id), !model_.IsUnused(id), is_special});
      if (is_special) {
        special.push_back({.id = id, .content = model_.IdToPiece(id), .special = true});
      }
    }
    special_ = TokenMatcher(std::move(special));
    // The library puts a space before every text (unless the model says otherwise).
    std::vector<int> ids;
    if (model_.Encode("a", &ids).ok() && !ids.empty()) {
      texts->spaces_off_start =
          std::string_view(model_.IdToPiece(ids.front())).starts_with(kSpace) ? 1 : 0;
    }
    texts_ = std::move(texts);
  }

  std::vector<std::int32_t> encode(std::string_view text, SpecialTokens mode) const override {
    const bool is_whole = mode == SpecialTokens::added;
    std::vector<std::int32_t> ids;
    if (is_whole) ids = before_;
    special_.run(
        text, mode == SpecialTokens::plain,
        [&](std::string_view section) {
          std::vector<int> some;
          const auto status = model_.Encode({section.data(), section.size()}, &some);
          if (!status.ok()) {
            throw Error(ErrorCode::input, fmt::format("SentencePiece cannot encode {} bytes: {}",
                                                      section.size(), status.ToString()));
          }
          ids.insert(ids.end(), some.begin(), some.end());
        },
        [&](const AddedToken& token) { ids.push_back(token.id); });
    if (is_whole) ids.insert(ids.end(), behind_.begin(), behind_.end());
    return ids;
  }

  std::optional<std::int32_t> id_of(std::string_view token) const override {
    const int id = model_.PieceToId({token.data(), token.size()});
    // Unknown pieces get the id of the one that stands for them.
    if (id < 0 || id >= model_.GetPieceSize() || model_.IdToPiece(id) != token) return std::nullopt;
    return id;
  }

  std::int64_t vocabulary() const override { return model_.GetPieceSize(); }
  std::shared_ptr<const TokenTexts> texts() const override { return texts_; }

 private:
  sentencepiece::SentencePieceProcessor model_;
  TokenMatcher special_;
  std::vector<std::int32_t> before_;
  std::vector<std::int32_t> behind_;
  std::shared_ptr<const TokenTexts> texts_;
};

}  // namespace

std::unique_ptr<Backend> load_sentencepiece(const std::filesystem::path& path,
                                            const std::filesystem::path& config) {
  bool wants_begin = true;
  bool wants_end = false;
  std::error_code unclear;
  if (std::filesystem::exists(config, unclear)) {
    try {
      const auto json = nlohmann::json::parse(read_text_file(config, ErrorCode::input));
      const Fields fields(json, config.string());
      wants_begin = fields.flag("add_bos_token", true);
      wants_end = fields.flag("add_eos_token", false);
    } catch (const nlohmann::json::exception& error) {
      throw Error(ErrorCode::input, fmt::format("{}: is not JSON: {}; fetch the checkpoint again",
                                                config.string(), error.what()));
    }
  }
  return std::make_unique<SentencePieceTokenizer>(path, wants_begin, wants_end);
}

}  // namespace powerprefill::text
