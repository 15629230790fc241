#include "text/unicode/byte_spelling.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <system_error>

#include "text/unicode/utf8.hpp"

namespace powerprefill::text {

namespace {

struct ByteTable {
  std::array<char32_t, 256> characters{};
  std::array<int, 0x200> bytes{};  // -1: none

  ByteTable() {
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

const ByteTable& byte_table() {
  static const ByteTable table;
  return table;
}

}  // namespace

char32_t character_of_byte(std::uint8_t byte) {
  return byte_table().characters[byte];
}

std::optional<std::string> bytes_of_spelling(std::string_view spelling) {
  std::string out;
  for (std::size_t i = 0; i < spelling.size();) {
    const Scan scan = scan_at(spelling, i);
    const bool known = scan.kind == Scan::Kind::character && scan.value < 0x200;
    const int byte = known ? byte_table().bytes[scan.value] : -1;
    if (byte < 0) return std::nullopt;
    out.push_back(static_cast<char>(byte));
    i += scan.bytes;
  }
  return out;
}

std::string fallback_of_byte(std::uint8_t byte) {
  return fmt::format("<0x{:02X}>", byte);
}

std::optional<std::uint8_t> byte_of_fallback(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  std::uint8_t byte = 0;
  const char* const end = token.data() + 5;
  const auto [stop, error] = std::from_chars(token.data() + 3, end, byte, 16);
  return error == std::errc() && stop == end ? std::optional(byte) : std::nullopt;
}

}  // namespace powerprefill::text
