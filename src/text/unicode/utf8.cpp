#include "text/unicode/utf8.hpp"

#include <cstdint>
#include <cstring>

namespace powerprefill::text {

namespace {

struct Lead {
  std::size_t bytes = 0;   // of the character; 0: no character starts so
  unsigned lowest = 0x80;  // bounds of the second byte, inclusive
  unsigned highest = 0xBF;
  char32_t bits = 0;
};

Lead lead_of(unsigned char byte) {
  if (byte < 0x80) return {.bytes = 1, .bits = byte};
  if (byte < 0xC2) return {};
  if (byte < 0xE0) return {.bytes = 2, .bits = byte & 0x1FU};
  if (byte < 0xF0) {
    return {.bytes = 3,
            .lowest = byte == 0xE0 ? 0xA0U : 0x80U,
            .highest = byte == 0xED ? 0x9FU : 0xBFU,  // no surrogates
            .bits = byte & 0x0FU};
  }
  if (byte < 0xF5) {
    return {.bytes = 4,
            .lowest = byte == 0xF0 ? 0x90U : 0x80U,
            .highest = byte == 0xF4 ? 0x8FU : 0xBFU,
            .bits = byte & 0x07U};
  }
  return {};
}

}  // namespace

Scan scan_at(std::string_view text, std::size_t position) {
  Lead lead = lead_of(static_cast<unsigned char>(text[position]));
  if (lead.bytes == 0) return {Scan::Kind::broken, 1, 0};
  for (std::size_t i = 1; i < lead.bytes; ++i) {
    if (position + i == text.size()) return {Scan::Kind::incomplete, i, 0};
    const auto byte = static_cast<unsigned char>(text[position + i]);
    if (byte < lead.lowest || byte > lead.highest) return {Scan::Kind::broken, i, 0};
    lead.lowest = 0x80;
    lead.highest = 0xBF;
    lead.bits = lead.bits << 6 | (byte & 0x3FU);
  }
  return {Scan::Kind::character, lead.bytes, lead.bits};
}

std::size_t find_broken(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    std::uint64_t eight = 0;
    if (i + sizeof(eight) <= text.size()) {
      std::memcpy(&eight, text.data() + i, sizeof(eight));
      if ((eight & 0x8080808080808080U) == 0) {
        i += sizeof(eight);
        continue;
      }
    }
    const Scan scan = scan_at(text, i);
    if (scan.kind != Scan::Kind::character) return i;
    i += scan.bytes;
  }
  return std::string_view::npos;
}

std::size_t start_of_last(std::string_view text, std::size_t end) {
  std::size_t start = end - 1;
  while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0U) == 0x80U) --start;
  return start;
}

void append_utf8(std::string& text, char32_t character) {
  const auto put = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (character < 0x80) {
    put(character);
  } else if (character < 0x800) {
    put(0xC0U | character >> 6);
    put(0x80U | (character & 0x3FU));
  } else if (character < 0x10000) {
    put(0xE0U | character >> 12);
    put(0x80U | (character >> 6 & 0x3FU));
    put(0x80U | (character & 0x3FU));
  } else {
    put(0xF0U | character >> 18);
    put(0x80U | (character >> 12 & 0x3FU));
    put(0x80U | (character >> 6 & 0x3FU));
    put(0x80U | (character & 0x3FU));
  }
}

std::string Utf8Stream::feed(std::string_view bytes) {
  waiting_ += bytes;
  std::string out;
  std::size_t i = 0;
  while (i < waiting_.size()) {
    const Scan scan = scan_at(waiting_, i);
    if (scan.kind == Scan::Kind::incomplete) break;
    out += scan.kind == Scan::Kind::character ? std::string_view(waiting_).substr(i, scan.bytes)
                                              : kReplacement;
    i += scan.bytes;
  }
  waiting_.erase(0, i);
  return out;
}

std::string Utf8Stream::finish() {
  if (waiting_.empty()) return {};
  waiting_.clear();
  return std::string(kReplacement);
}

}  // namespace powerprefill::text
