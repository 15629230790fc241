#include <gtest/gtest.h>

#include <random>
#include <string>

#include "text/unicode/utf8.hpp"

namespace powerprefill::text {
namespace {

TEST(Utf8, every_character_survives) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_utf8(text, c);
    const Scan scan = scan_at(text, 0);
    ASSERT_EQ(scan.kind, Scan::Kind::character) << static_cast<unsigned>(c);
    ASSERT_EQ(scan.value, c);
    ASSERT_EQ(scan.bytes, text.size());
  }
}

TEST(Utf8, broken_bytes_are_found) {
  EXPECT_EQ(find_broken("plain ASCII of some length"), std::string::npos);
  EXPECT_EQ(find_broken("longer than eight \xC3\xA9"), std::string::npos);
  EXPECT_EQ(find_broken("longer than eight \xC3"), 18U);  // cut short
  EXPECT_EQ(find_broken("a\xC0\x80"), 1U);                // overlong
  EXPECT_EQ(find_broken("a\xED\xA0\x80"), 1U);            // a surrogate
  EXPECT_EQ(find_broken("a\xF4\x90\x80\x80"), 1U);        // beyond U+10FFFF
  EXPECT_EQ(find_broken("ab\x80"), 2U);
}

// The example of The Unicode Standard, table 3-8, and the ones after it.
TEST(Utf8, stream_replaces_as_unicode_recommends) {
  const auto repair = [](const std::string& bytes) {
    Utf8Stream stream;
    std::string out = stream.feed(bytes);
    return out + stream.finish();
  };
  const std::string r(kReplacement);
  EXPECT_EQ(repair("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"),
            "a" + r + r + r + "b" + r + "c" + r + r + "d");
  EXPECT_EQ(repair("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(repair("\xF0\x9F\x98"), r);
}

TEST(Utf8, stream_does_not_depend_on_how_bytes_come) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (std::size_t i = random() % 24; i > 0; --i) {
      constexpr std::string_view kBytes = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xED\xF4\xFF";
      bytes.push_back(kBytes[random() % kBytes.size()]);
    }
    Utf8Stream whole;
    std::string expected = whole.feed(bytes);
    expected += whole.finish();
    Utf8Stream pieces;
    std::string out;
    for (const char byte : bytes) {
      const std::string some = pieces.feed({&byte, 1});
      EXPECT_EQ(find_broken(some), std::string::npos);
      out += some;
    }
    ASSERT_EQ(out + pieces.finish(), expected);
    ASSERT_EQ(find_broken(expected), std::string::npos);
  }
}

}  // namespace
}  // namespace powerprefill::text
