#include "text/unicode_forms.hpp"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "powerprefill/error.hpp"
#include "text/utf8.hpp"

namespace powerprefill::text {

namespace {

// Sorts every run of marks by combining class. utf8proc's own sorting takes quadratic time.
void order_marks(std::vector<utf8proc_int32_t>& characters) {
  const auto class_of = [](utf8proc_int32_t c) {
    return c < 0x300 ? 0 : utf8proc_get_property(c)->combining_class;
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
    if (value < 0xA0) {
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
  auto count = static_cast<utf8proc_ssize_t>(characters.size());
  if (form.compose) {
    const auto compose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    count = utf8proc_normalize_utf32(characters.data(), count, compose);
    if (count < 0) throw Error(ErrorCode::internal, utf8proc_errmsg(count));
  }
  for (utf8proc_ssize_t i = 0; i < count; ++i) {
    append_utf8(out, static_cast<char32_t>(characters[static_cast<std::size_t>(i)]));
  }
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
    append_utf8(out,
                static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(scan.value))));
  }
  return out;
}

}  // namespace powerprefill::text
