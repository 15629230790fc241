// How byte-level vocabularies spell bytes: every byte as one printable character (GPT-2).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace powerprefill::text {

// The character that stands for `byte`: itself if it is printable in Latin-1, else one from U+0100
// on; the space is "Ġ".
char32_t character_of_byte(std::uint8_t byte);

// The bytes that `spelling` stands for; nullopt when a character in it stands for none.
std::optional<std::string> bytes_of_spelling(std::string_view spelling);

}  // namespace powerprefill::text
