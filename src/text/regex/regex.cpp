#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex/regex.hpp"

#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "base/shortened.hpp"
#include "powerprefill/error.hpp"
#include "text/regex/oniguruma_to_pcre2.hpp"

namespace powerprefill::text {

namespace {

// The expressions of published tokenizers take constant stack; a nested one may take more.
constexpr std::size_t kSmallestStack = 64 << 10;
constexpr std::size_t kLargestStack = 256 << 20;
// Of one match; those of published tokenizers take some for each character of the match.
constexpr std::size_t kFreeSteps = 1'000'000;
constexpr std::size_t kStepsPerCharacter = 16;

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return std::string(text.begin(), std::find(text.begin(), text.end(), 0));
}

std::size_t bytes_from(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

}  // namespace

struct RegexScratch::State {
  pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(kSmallestStack, kLargestStack, nullptr);
  std::vector<std::string> spare;  // of searches that are over
};

RegexScratch::RegexScratch() : state_(std::make_unique<State>()) {
  pcre2_jit_stack_assign(state_->context, nullptr, state_->stack);
}

RegexScratch::~RegexScratch() {
  pcre2_match_data_free(state_->match);
  pcre2_match_context_free(state_->context);
  pcre2_jit_stack_free(state_->stack);
}

struct Regex::Code {
  Code(pcre2_code* owned, Alphabet letters) : compiled(owned), alphabet(std::move(letters)) {}
  ~Code() { pcre2_code_free(compiled); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  pcre2_code* compiled;
  Alphabet alphabet;
};

Regex::Regex(LetterPattern pattern, const std::string& where, std::string_view shown) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  // Not PCRE2_UTF with PCRE2_UCP: \p, \w and case would be those of the library's Unicode version.
  // In Ruby's syntax ^ and $ are always about lines.
  pcre2_code* compiled =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.pattern.data()), pattern.pattern.size(),
                    PCRE2_MULTILINE | PCRE2_NEVER_UTF, &error, &offset, context);
  pcre2_compile_context_free(context);
  if (compiled == nullptr) {
    throw Error(ErrorCode::input,
                fmt::format("{}: the regular expression `{}` is not understood: {}", where,
                            shortened(shown, 200), message_of(error)));
  }
  code_ = std::make_shared<Code>(compiled, std::move(pattern.alphabet));
  // Where the system forbids generated code, the slower interpreter serves.
  pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
}

Regex Regex::from_oniguruma(std::string_view pattern, const std::string& where) {
  return Regex(to_letters(pattern, where), where, pattern);
}

Regex Regex::literal(std::string_view text) {
  Regex regex;
  regex.text_ = text;
  return regex;
}

Regex Regex::one_of(const CodePointSet& set) {
  return Regex(to_letters(set), "a set", "");
}

RegexSearch::RegexSearch(const Regex& regex, std::string_view text, RegexScratch& scratch)
    : regex_(regex), text_(text), scratch_(*scratch.state_) {
  if (!regex_.code_) return;
  if (!scratch_.spare.empty()) {
    letters_ = std::move(scratch_.spare.back());
    scratch_.spare.pop_back();
  }
  regex_.code_->alphabet.spell(text_, letters_);
}

RegexSearch::~RegexSearch() {
  if (letters_.capacity() > 0) scratch_.spare.push_back(std::move(letters_));
}

std::size_t RegexSearch::character_at(std::size_t byte) {
  if (letters_.size() == text_.size()) return byte;
  if (byte < byte_) byte_ = character_ = 0;
  while (byte_ < byte) {
    byte_ += bytes_from(text_[byte_]);
    ++character_;
  }
  return character_;
}

std::size_t RegexSearch::byte_at(std::size_t character) {
  if (letters_.size() == text_.size()) return character;
  if (character < character_) byte_ = character_ = 0;
  while (character_ < character) {
    byte_ += bytes_from(text_[byte_]);
    ++character_;
  }
  return byte_;
}

std::optional<Regex::Match> RegexSearch::next() {
  while (from_ <= text_.size()) {
    const auto match = find(from_);
    if (!match) break;
    const bool is_empty = match->begin == match->end;
    from_ = match->end;
    if (is_empty) from_ += from_ < text_.size() ? bytes_from(text_[from_]) : 1;
    if (is_empty && last_end_ == match->begin) continue;
    last_end_ = match->end;
    return match;
  }
  from_ = text_.size() + 1;
  return std::nullopt;
}

std::optional<Regex::Match> RegexSearch::find(std::size_t from) {
  if (!regex_.code_) {
    const std::size_t found = text_.find(regex_.text_, from);
    if (found == std::string_view::npos) return std::nullopt;
    return Regex::Match{found, found + regex_.text_.size()};
  }
  const std::size_t steps = kFreeSteps + kStepsPerCharacter * letters_.size();
  pcre2_set_match_limit(scratch_.context, static_cast<std::uint32_t>(std::min<std::size_t>(
                                              steps, std::numeric_limits<std::uint32_t>::max())));
  const int found =
      pcre2_match(regex_.code_->compiled, reinterpret_cast<PCRE2_SPTR>(letters_.data()),
                  letters_.size(), character_at(from), 0, scratch_.match, scratch_.context);
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0) {
    throw Error(ErrorCode::input,
                fmt::format("matching a regular expression of the tokenizer failed behind byte {} "
                            "of a text of {}: {}; fetch the checkpoint again, split the prompt, or "
                            "give token ids (--tokens)",
                            from, text_.size(), message_of(found)));
  }
  // 0 says that groups did not fit; the whole match always does.
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(scratch_.match);
  const std::size_t begin = byte_at(ends[0]);
  return Regex::Match{begin, byte_at(ends[1])};
}

}  // namespace powerprefill::text
