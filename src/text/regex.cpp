#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.hpp"

#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

#include "powerprefill/error.hpp"

namespace powerprefill::text {

namespace {

// The expressions of published tokenizers take constant stack; a nested one may take more.
constexpr std::size_t kSmallestStack = 64 << 10;
constexpr std::size_t kLargestStack = 256 << 20;

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return std::string(text.begin(), std::find(text.begin(), text.end(), 0));
}

}  // namespace

struct RegexScratch::State {
  pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(kSmallestStack, kLargestStack, nullptr);
};

RegexScratch::RegexScratch() : state_(std::make_unique<State>()) {
  pcre2_jit_stack_assign(state_->context, nullptr, state_->stack);
  // The limit counts steps, and a prompt may have any length.
  pcre2_set_match_limit(state_->context, std::numeric_limits<std::uint32_t>::max());
}

RegexScratch::~RegexScratch() {
  pcre2_match_data_free(state_->match);
  pcre2_match_context_free(state_->context);
  pcre2_jit_stack_free(state_->stack);
}

struct Regex::Code {
  explicit Code(pcre2_code* owned) : compiled(owned) {}
  ~Code() { pcre2_code_free(compiled); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  pcre2_code* compiled;
};

Regex::Regex(std::string_view pattern, unsigned options, const std::string& where) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                       options | PCRE2_UTF, &error, &offset, nullptr);
  if (compiled == nullptr) {
    throw Error(ErrorCode::input,
                fmt::format("{}: the regular expression `{}` is not understood at byte {}: {}",
                            where, pattern, offset, message_of(error)));
  }
  code_ = std::make_shared<Code>(compiled);
  // Where the system forbids generated code, the slower interpreter serves.
  pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
}

Regex Regex::from_oniguruma(std::string_view pattern, const std::string& where) {
  // In Ruby's syntax ^ and $ are always about lines.
  return Regex(to_pcre2(pattern, where), PCRE2_UCP | PCRE2_MULTILINE, where);
}

Regex Regex::literal(std::string_view text) {
  return Regex(text, PCRE2_LITERAL, "a literal");
}

std::optional<Regex::Match> Regex::find(std::string_view subject, std::size_t from,
                                        RegexScratch& scratch) const {
  RegexScratch::State& state = *scratch.state_;
  const int found =
      pcre2_match(code_->compiled, reinterpret_cast<PCRE2_SPTR>(subject.data()), subject.size(),
                  from, PCRE2_NO_UTF_CHECK, state.match, state.context);
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0) {
    throw Error(ErrorCode::input,
                fmt::format("matching a regular expression of the tokenizer failed behind byte {} "
                            "of a text of {}: {}; split the prompt",
                            from, subject.size(), message_of(found)));
  }
  // 0 says that groups did not fit; the whole match always does.
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(state.match);
  return Match{ends[0], ends[1]};
}

}  // namespace powerprefill::text
