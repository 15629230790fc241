#include "text/unicode/forms.hpp"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "powerprefill/error.hpp"
#include "text/unicode/code_points.hpp"
#include "text/unicode/utf8.hpp"

namespace powerprefill::text {

namespace {

// A character that the forms leave as it is: it came after the version that the reference knows.
// Of the others, forms never change, whatever version the library has.
bool is_inert(utf8proc_int32_t c) {
  constexpr utf8proc_int32_t kFirst = 0x378;
  return c >= kFirst && unknown_to_forms().contains(static_cast<char32_t>(c));
}

// Sorts every run of marks by combining class. utf8proc's own sorting takes quadratic time.
void order_marks(std::vector<utf8proc_int32_t>& characters) {
  const auto class_of = [](utf8proc_int32_t c) {
    return c < 0x300 || is_inert(c) ? 0 : utf8proc_get_property(c)->combining_class;
  };
  const auto is_mark = [&](utf8proc_int32_t c) { return class_of(c) != 0; };
  auto run = characters.begin();
  while (run != characters.end()) {
    run = std::find_if(run, characters.end(), is_mark);
    const auto end = std::find_if_not(run, characters.end(), is_mark);
    if (end - run > 1) {
      std::stable_sort(run, end, [&](auto a, auto b) { return class_of(a) < class_of(b); });
    }
    run = end;
  }
}

// Composes what lies between inert characters, each stretch by itself.
void compose(std::vector<utf8proc_int32_t>& characters) {
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  auto done = characters.begin();  // the composed text's end
  for (auto begin = characters.begin(); begin != characters.end();) {
    const auto end = std::find_if(begin, characters.end(), is_inert);
    if (begin != end) {
      const auto count = utf8proc_normalize_utf32(&*begin, end - begin, options);
      if (count < 0) throw Error(ErrorCode::internal, utf8proc_errmsg(count));
      done = std::copy(begin, begin + count, done);
    }
    begin = end;
    if (begin != characters.end()) *done++ = *begin++;
  }
  characters.erase(done, characters.end());
}

void append_form(std::string& out, std::string_view text, UnicodeForm form) {
  const auto decompose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                        (form.compatibility ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> characters;
  characters.reserve(text.size() / 2 + 8);
  std::array<utf8proc_int32_t, 32> parts{};
  for (std::size_t i = 0; i < text.size();) {
    const Scan scan = scan_at(text, i);
    i += scan.bytes;
    const auto value = static_cast<utf8proc_int32_t>(scan.value);
    if (value < 0xA0 || is_inert(value)) {
      characters.push_back(value);
      continue;
    }
    int last_boundary = 0;
    const auto count =
        utf8proc_decompose_char(value, parts.data(), parts.size(), decompose, &last_boundary);
    if (count < 0 || count > static_cast<utf8proc_ssize_t>(parts.size())) {
      throw Error(ErrorCode::internal, fmt::format("U+{:04X} cannot be decomposed", value));
    }
    characters.insert(characters.end(), parts.begin(), parts.begin() + count);
  }
  order_marks(characters);
  if (form.compose) compose(characters);
  for (const utf8proc_int32_t c : characters) append_utf8(out, static_cast<char32_t>(c));
}

bool is_ascii(char c) {
  return static_cast<unsigned char>(c) < 0x80;
}

}  // namespace

std::string to_unicode_form(std::string_view text, UnicodeForm form) {
  std::string out;
  out.reserve(text.size() + text.size() / 16);
  // An ASCII character neither decomposes nor combines with what is before it: the stretches
  // between are independent, each with the ASCII character that its marks may belong to.
  std::size_t done = 0;
  while (done < text.size()) {
    const auto begin = std::find_if_not(text.begin() + done, text.end(), is_ascii);
    const auto end = std::find_if(begin, text.end(), is_ascii);
    const auto base = begin == text.begin() + done || begin == text.end() ? begin : begin - 1;
    out.append(text.begin() + done, base);
    append_form(out, std::string_view(base, end), form);
    done = static_cast<std::size_t>(end - text.begin());
  }
  return out;
}

std::string to_lower_case(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const Scan scan = scan_at(text, i);
    i += scan.bytes;
    if (scan.value == 0x130) {  // the one character whose lower case is two
      out += "i\xCC\x87";
      continue;
    }
    append_utf8(out, lower_case(scan.value));
  }
  return out;
}

}  // namespace powerprefill::text
