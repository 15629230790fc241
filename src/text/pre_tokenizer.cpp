#include "text/pre_tokenizer.hpp"

#include <fmt/format.h>

#include <optional>

#include "text/file_checks.hpp"
#include "text/regex/split.hpp"
#include "text/unicode/utf8.hpp"

namespace powerprefill::text {

namespace {

// Of GPT-2, which ByteLevel uses unless told otherwise.
constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// \w of Rust's regex, which is not Oniguruma's.
constexpr std::string_view kRustWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D})";

enum class Prefix { never, unless_there, opening };

std::string with_replaced_spaces(std::string_view text, const std::string& by) {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  for (const char c : text) {
    if (c == ' ') {
      out += by;
    } else {
      out.push_back(c);
    }
  }
  return out;
}

}  // namespace

// Replaces spaces, puts a prefix before, and splits; each where there is something to do.
struct PreTokenizer::Stage {
  std::string space;   // what spaces become; empty: they stay
  std::string prefix;  // what every piece begins with
  Prefix when = Prefix::never;
  std::optional<Split> split;
};

PreTokenizer::PreTokenizer(const JsonFields& description) {
  add(description);
}

void PreTokenizer::add(const JsonFields& description) {
  const std::string type = description.need_text("type");
  if (byte_level_) unsupported(description, "a pre-tokenizer behind `ByteLevel`");
  if (type == "Sequence") {
    for (const JsonFields& part : description.need_objects("pretokenizers")) add(part);
    return;
  }
  auto stage = std::make_shared<Stage>();
  const auto split = [&](std::string_view pattern, SplitBehavior behavior, bool invert = false) {
    stage->split = Split{Regex::from_oniguruma(pattern, description.where()), behavior, invert};
  };
  if (type == "Split") {
    const JsonFields pattern = description.need_fields("pattern");
    const SplitBehavior behavior =
        split_behavior(description.need_text("behavior"), description.where());
    const bool invert = description.boolean("invert").value_or(false);
    if (pattern.find("Regex") != nullptr) {
      split(pattern.need_text("Regex"), behavior, invert);
    } else {
      const std::string text = pattern.need_text("String");
      if (text.empty()) fail(description, "the pattern is empty");
      stage->split = Split{Regex::literal(text), behavior, invert};
    }
  } else if (type == "ByteLevel") {
    byte_level_ = true;
    if (description.boolean("add_prefix_space").value_or(true)) {
      stage->prefix = " ";
      stage->when = Prefix::unless_there;
    }
    if (description.boolean("use_regex").value_or(true))
      split(kByteLevelPattern, SplitBehavior::isolated);
  } else if (type == "Digits") {
    const bool each = description.boolean("individual_digits").value_or(false);
    stage->split =
        Split{Regex::one_of(digits()), each ? SplitBehavior::isolated : SplitBehavior::contiguous};
  } else if (type == "Punctuation") {
    stage->split = Split{
        Regex::one_of(punctuation()),
        split_behavior(description.text("behavior").value_or("Isolated"), description.where())};
  } else if (type == "Whitespace") {
    split(fmt::format(R"([{0}]+|[^{0}\s]+)", kRustWord), SplitBehavior::removed, true);
  } else if (type == "WhitespaceSplit") {
    stage->split = Split{Regex::one_of(white_space()), SplitBehavior::removed};
  } else if (type == "Metaspace") {
    stage->space = description.need_text("replacement");
    if (stage->space.empty() || scan_at(stage->space, 0).bytes != stage->space.size()) {
      fail(description, "the replacement is not one character");
    }
    const bool adds = description.boolean("add_prefix_space").value_or(true);
    const std::string scheme =
        description.text("prepend_scheme").value_or(adds ? "always" : "never");
    if (scheme != "always" && scheme != "first" && scheme != "never") {
      unsupported(description, fmt::format("the prepend_scheme `{}`", scheme));
    }
    stage->prefix = stage->space;
    stage->when = scheme == "always"  ? Prefix::unless_there
                  : scheme == "first" ? Prefix::opening
                                      : Prefix::never;
    if (description.boolean("split").value_or(true)) {
      stage->split = Split{Regex::literal(stage->space), SplitBehavior::merged_with_next};
    }
  } else {
    unsupported(description, fmt::format("the pre-tokenizer `{}`", type));
  }
  stages_.push_back(std::move(stage));
  check_steps(stages_.size(), description);
}

// What the stages have in common while one text goes through them.
struct PreTokenizer::Run {
  RegexScratch& scratch;
  const Emit& emit;
  std::size_t size;       // bytes of the text that came in
  std::size_t added = 0;  // by all stages, to all pieces: the prefixes of each piece of each stage
};

void PreTokenizer::run(std::string_view text, bool opens_prompt, RegexScratch& scratch,
                       const Emit& emit) const {
  Run run = {.scratch = scratch, .emit = emit, .size = text.size()};
  if (!text.empty()) run_from(0, text, opens_prompt, run);
}

void PreTokenizer::run_from(std::size_t number, std::string_view text, bool opens_prompt,
                            Run& run) const {
  if (number == stages_.size()) {
    run.emit(text);
    return;
  }
  const Stage& stage = *stages_[number];
  const std::size_t size = text.size();
  std::string changed;
  if (!stage.space.empty()) {
    changed = with_replaced_spaces(text, stage.space);
    text = changed;
  }
  const bool wants_prefix =
      stage.when == Prefix::unless_there || (stage.when == Prefix::opening && opens_prompt);
  if (wants_prefix && !text.starts_with(stage.prefix)) {
    changed = stage.prefix + std::string(text);
    text = changed;
  }
  run.added += text.size() - size;  // a space becomes a whole character, so no text shrinks
  check_growth(run.size, run.added, "the pre-tokenizer");
  if (!stage.split) {
    run_from(number + 1, text, opens_prompt, run);
    return;
  }
  const char* begin = text.data();
  split_text(text, *stage.split, run.scratch, [&](std::string_view piece) {
    run_from(number + 1, piece, opens_prompt && piece.data() == begin, run);
  });
}

}  // namespace powerprefill::text
