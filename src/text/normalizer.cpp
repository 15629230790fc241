#include "text/normalizer.hpp"

#include <fmt/format.h>

#include <optional>

#include "text/file_checks.hpp"
#include "text/unicode/code_points.hpp"
#include "text/unicode/forms.hpp"
#include "text/unicode/utf8.hpp"

namespace powerprefill::text {

struct Normalizer::Step {
  enum class Kind { form, lower_case, strip, prepend, replace };
  Kind kind = Kind::form;
  UnicodeForm form{};
  bool left = true;   // strip
  bool right = true;  // strip
  std::string text;   // prepend, replace
  std::optional<Regex> pattern;
};

namespace {

constexpr std::string_view kWhat = "the normalizer";

std::string strip(const std::string& text, bool left, bool right) {
  std::size_t begin = 0;
  while (left && begin < text.size()) {
    const Scan scan = scan_at(text, begin);
    if (!white_space().contains(scan.value)) break;
    begin += scan.bytes;
  }
  std::size_t end = text.size();
  while (right && end > begin) {
    const std::size_t start = start_of_last(text, end);
    if (!white_space().contains(scan_at(text, start).value)) break;
    end = start;
  }
  return text.substr(begin, end - begin);
}

// `size` is that of the text which the normalizer was given.
std::string replace(const std::string& text, const Regex& pattern, const std::string& by,
                    std::size_t size, RegexScratch& scratch) {
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  std::size_t done = 0;
  RegexSearch search(pattern, text, scratch);
  while (const auto match = search.next()) {
    out.append(text, done, match->begin - done);
    check_growth(size, out.size() + by.size(), kWhat);
    out += by;
    done = match->end;
  }
  out.append(text, done);
  return out;
}

}  // namespace

Normalizer::Normalizer(const JsonFields& description) {
  add(description);
}

void Normalizer::add(const JsonFields& description) {
  const std::string type = description.need_text("type");
  if (type == "Sequence") {
    for (const JsonFields& part : description.need_objects("normalizers")) add(part);
    return;
  }
  auto step = std::make_shared<Step>();
  if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    step->form = {.compose = type.back() == 'C', .compatibility = type.size() == 4};
  } else if (type == "Lowercase") {
    step->kind = Step::Kind::lower_case;
  } else if (type == "Strip") {
    step->kind = Step::Kind::strip;
    step->left = description.boolean("strip_left").value_or(true);
    step->right = description.boolean("strip_right").value_or(true);
  } else if (type == "Prepend") {
    step->kind = Step::Kind::prepend;
    step->text = description.need_text("prepend");
  } else if (type == "Replace") {
    step->kind = Step::Kind::replace;
    step->text = description.need_text("content");
    const JsonFields pattern = description.need_fields("pattern");
    step->pattern = pattern.find("Regex") != nullptr
                        ? Regex::from_oniguruma(pattern.need_text("Regex"), pattern.where())
                        : Regex::literal(pattern.need_text("String"));
  } else {
    unsupported(description, fmt::format("the normalizer `{}`", type));
  }
  steps_.push_back(std::move(step));
  check_steps(steps_.size(), description);
}

std::string Normalizer::operator()(std::string text, RegexScratch& scratch) const {
  const std::size_t size = text.size();
  for (const auto& step : steps_) {
    switch (step->kind) {
      case Step::Kind::form:
        text = to_unicode_form(text, step->form);
        break;
      case Step::Kind::lower_case:
        text = to_lower_case(text);
        break;
      case Step::Kind::strip:
        text = strip(text, step->left, step->right);
        break;
      case Step::Kind::prepend:
        check_growth(size, text.size() + step->text.size(), kWhat);
        if (!text.empty()) text.insert(0, step->text);
        break;
      case Step::Kind::replace:
        text = replace(text, *step->pattern, step->text, size, scratch);
        break;
    }
    check_growth(size, text.size(), kWhat);
  }
  return text;
}

}  // namespace powerprefill::text
