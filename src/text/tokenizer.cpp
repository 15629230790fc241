#include "powerprefill/tokenizer.hpp"

#include <fmt/format.h>

#include <utility>

#include "text/backend.hpp"
#include "text/unicode/utf8.hpp"

namespace powerprefill {

namespace {

constexpr const char* kJson = "tokenizer.json";
constexpr const char* kSentencePiece = "tokenizer.model";

}  // namespace

Tokenizer::Tokenizer(std::shared_ptr<const text::Backend> backend) : backend_(std::move(backend)) {}

bool Tokenizer::exists(const std::filesystem::path& folder) {
  std::error_code unclear;
  return std::filesystem::exists(folder / kJson, unclear) ||
         std::filesystem::exists(folder / kSentencePiece, unclear);
}

Tokenizer Tokenizer::load(const std::filesystem::path& folder) {
  std::error_code unclear;
  if (std::filesystem::exists(folder / kJson, unclear)) {
    return Tokenizer(
        text::load_tokenizer_json(folder / kJson, text::TokenizerConfig::read(folder)));
  }
  if (std::filesystem::exists(folder / kSentencePiece, unclear)) {
    return Tokenizer(
        text::load_sentencepiece(folder / kSentencePiece, text::TokenizerConfig::read(folder)));
  }
  throw Error(
      ErrorCode::input,
      fmt::format("{}: has neither {} nor {}; fetch them with the checkpoint, or give token "
                  "ids instead of text (--tokens)",
                  folder.string(), kJson, kSentencePiece));
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, SpecialTokens mode) const {
  const std::size_t broken = text::find_broken(text);
  if (broken != std::string_view::npos) {
    throw Error(ErrorCode::input,
                fmt::format("the text is not UTF-8 at byte {} of {} (0x{:02X}); convert it, e.g. "
                            "with iconv",
                            broken, text.size(), static_cast<unsigned char>(text[broken])));
  }
  return backend_->encode(text, mode);
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  StreamingDecoder decoder(*this, skip_special);
  std::string out;
  for (const std::int32_t id : ids) out += decoder.next(id);
  return out + decoder.finish();
}

std::int64_t Tokenizer::vocabulary() const {
  return backend_->vocabulary();
}

std::optional<std::int32_t> Tokenizer::id_of(std::string_view token) const {
  return backend_->id_of(token);
}

const std::vector<std::string>& Tokenizer::notes() const {
  return backend_->notes();
}

StreamingDecoder::StreamingDecoder(const Tokenizer& tokenizer, bool skip_special)
    : reader_(std::make_unique<text::TokenReader>(tokenizer.backend_->texts(), skip_special)) {}
StreamingDecoder::~StreamingDecoder() = default;
StreamingDecoder::StreamingDecoder(StreamingDecoder&&) noexcept = default;
StreamingDecoder& StreamingDecoder::operator=(StreamingDecoder&&) noexcept = default;

std::string StreamingDecoder::next(std::int32_t id) {
  return reader_->next(id);
}
std::string StreamingDecoder::finish() {
  return reader_->finish();
}

}  // namespace powerprefill
