#include "text/unicode/byte_spelling.hpp"

#include <array>

#include "text/unicode/utf8.hpp"

namespace powerprefill::text {

namespace {

struct Alphabet {
  std::array<char32_t, 256> characters{};
  std::array<int, 0x200> bytes{};  // -1: none

  Alphabet() {
    bytes.fill(-1);
    char32_t next = 0x100;
    for (unsigned b = 0; b < 256; ++b) {
      const bool printable =
          (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
      characters[b] = printable ? b : next++;
      bytes[characters[b]] = static_cast<int>(b);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

char32_t character_of_byte(std::uint8_t byte) {
  return alphabet().characters[byte];
}

std::optional<std::string> bytes_of_spelling(std::string_view spelling) {
  std::string out;
  for (std::size_t i = 0; i < spelling.size();) {
    const Scan scan = scan_at(spelling, i);
    const bool known = scan.kind == Scan::Kind::character && scan.value < 0x200;
    const int byte = known ? alphabet().bytes[scan.value] : -1;
    if (byte < 0) return std::nullopt;
    out.push_back(static_cast<char>(byte));
    i += scan.bytes;
  }
  return out;
}

}  // namespace powerprefill::text
