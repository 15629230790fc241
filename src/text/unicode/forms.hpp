// Other forms of a text: Unicode's normalisation forms (UAX #15), and lower case.
#pragma once

#include <string>
#include <string_view>

namespace powerprefill::text {

struct UnicodeForm {
  bool compose;        // NFC and NFKC
  bool compatibility;  // NFKC and NFKD
};

// `text` is well-formed UTF-8. Takes time in proportion to the text, whatever marks are in it.
std::string to_unicode_form(std::string_view text, UnicodeForm form);

// Character by character, as Unicode's simple mapping has it.
std::string to_lower_case(std::string_view text);

}  // namespace powerprefill::text
