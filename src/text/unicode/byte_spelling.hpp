// How vocabularies spell what their tokens do not hold as it is: bytes, and spaces.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace powerprefill::text {

// U+2581, which stands for a space in SentencePiece's vocabularies.
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

// Byte-level vocabularies (GPT-2): the character that stands for `byte`, itself if it is printable
// in Latin-1, else one from U+0100 on; the space is "Ġ".
char32_t character_of_byte(std::uint8_t byte);
// The bytes that `spelling` stands for; nullopt when a character in it stands for none.
std::optional<std::string> bytes_of_spelling(std::string_view spelling);

// Byte fallback (SentencePiece): the token of a byte that is part of no other token, "<0x0A>".
std::string fallback_of_byte(std::uint8_t byte);
// The byte of such a token; hexadecimal digits of either case.
std::optional<std::uint8_t> byte_of_fallback(std::string_view token);

}  // namespace powerprefill::text
