// Written by tests/reference/tokenizers/record_unicode.py with tokenizers 0.23.3 and
// Unicode 18.0.0.
#pragma once

#include <cstddef>
#include <cstdint>

namespace powerprefill::text::recorded {

// How many characters, and the FNV-1a hash of their numbers in 4 bytes each.
struct Set {
  const char* pattern;
  std::size_t count;
  std::uint64_t hash;
};
inline constexpr Set kMatched[] = {
    {R"(\p{L})", 141028, 0xF41BF72239455B4F},
    {R"(\p{N})", 1911, 0xD15586EE8A145A41},
    {R"(\p{P})", 855, 0x823C3C98638CC712},
    {R"(\p{M})", 2501, 0xD996D5F3B9390F58},
    {R"(\p{S})", 8514, 0x005984794DD2AED8},
    {R"(\p{Z})", 19, 0xB78CA003E8CD86A9},
    {R"(\p{C})", 957236, 0xBB5F186D4CE36068},
    {R"(\p{Lu})", 1858, 0xFD342E13A57E5D04},
    {R"(\p{Ll})", 2258, 0x927BFFDF46D7C43D},
    {R"(\p{Lt})", 31, 0xB10B0A544537BD2C},
    {R"(\p{Lm})", 404, 0x027A0171682E7278},
    {R"(\p{Lo})", 136477, 0x0DE7F357B9AB953A},
    {R"(\p{LC})", 4147, 0xABA5E8E9EDF6D999},
    {R"(\p{Mn})", 2020, 0xB94959C4BF3D9E53},
    {R"(\p{Mc})", 468, 0x993B3CC93CBF96BB},
    {R"(\p{Me})", 13, 0xA47A7CC03877E260},
    {R"(\p{Nd})", 760, 0x42D158E6FB1EEBDF},
    {R"(\p{Nl})", 236, 0xD60A11A368CCBA98},
    {R"(\p{No})", 915, 0x1F3EB607511F2CBE},
    {R"(\p{Pc})", 10, 0x5C092D0DA70DDC7E},
    {R"(\p{Pd})", 27, 0x69127255F5D8FA84},
    {R"(\p{Ps})", 79, 0x2948C844CCCC5706},
    {R"(\p{Pe})", 77, 0x95E188A074F69D45},
    {R"(\p{Pi})", 12, 0x0ED18A532447A6A0},
    {R"(\p{Pf})", 10, 0x512F9DA2E3283691},
    {R"(\p{Po})", 640, 0x54BD0A2A55B4286E},
    {R"(\p{Sm})", 950, 0xFA10BA2790A23895},
    {R"(\p{Sc})", 63, 0x18ADF81AC27A2606},
    {R"(\p{Sk})", 125, 0xD4B82FE59B23F1F5},
    {R"(\p{So})", 7376, 0xFBDE8ACF22FB5AD3},
    {R"(\p{Zs})", 17, 0x352BF3570E8B0DC8},
    {R"(\p{Zl})", 1, 0x62D4B5B825C43BBD},
    {R"(\p{Zp})", 1, 0x987B49AE958ED46C},
    {R"(\p{Cc})", 65, 0x21BB5DAD90E006FA},
    {R"(\p{Cf})", 170, 0xDEA2F23A23873A6C},
    {R"(\p{Co})", 137468, 0xE2DE41A622F0E569},
    {R"(\p{Cn})", 819533, 0x3CC15DAF9FFEF5AE},
    {R"(\p{Letter})", 141028, 0xF41BF72239455B4F},
    {R"(\p{Uppercase_Letter})", 1858, 0xFD342E13A57E5D04},
    {R"(\p{Punctuation})", 855, 0x823C3C98638CC712},
    {R"(\p{Decimal_Number})", 760, 0x42D158E6FB1EEBDF},
    {R"(\p{Alphabetic})", 142759, 0xE5A2B1CF304F6383},
    {R"(\p{Uppercase})", 1978, 0x41C9825C6A880A1C},
    {R"(\p{Lowercase})", 2569, 0x88A52D226FF1CB11},
    {R"(\p{White_Space})", 25, 0x07DB14E6E1F1A2F5},
    {R"(\p{Emoji})", 1431, 0x691DBE251C90B2F4},
    {R"(\p{Ideographic})", 106477, 0x222672FFF8FCEA14},
    {R"(\p{Alpha})", 142759, 0xE5A2B1CF304F6383},
    {R"(\p{Alnum})", 143519, 0x946E5ACBFFC20DD9},
    {R"(\p{Upper})", 1978, 0x41C9825C6A880A1C},
    {R"(\p{Lower})", 2569, 0x88A52D226FF1CB11},
    {R"(\p{Space})", 25, 0x07DB14E6E1F1A2F5},
    {R"(\p{Digit})", 760, 0x42D158E6FB1EEBDF},
    {R"(\p{Word})", 144671, 0x84911BEBD359CA4C},
    {R"(\p{ASCII})", 128, 0x709F2462C272F725},
    {R"(\p{Han})", 99030, 0xC64BE76EB86E54D8},
    {R"(\p{Hiragana})", 381, 0xAC1BE7C71E612345},
    {R"(\p{Katakana})", 321, 0xC670E3D3C095866E},
    {R"(\p{Hangul})", 11739, 0x77345F697C3A527F},
    {R"(\p{Latin})", 1487, 0x0DEEE9E0A606C405},
    {R"(\p{Cyrillic})", 508, 0x9A49A204CF8D5088},
    {R"(\p{Greek})", 518, 0x815E7734FBE9B0EF},
    {R"(\p{Arabic})", 1373, 0xE281780184AAEE05},
    {R"(\p{Hebrew})", 134, 0x2EFF813039105183},
    {R"(\p{Devanagari})", 164, 0x70E0BEEDA8279AB9},
    {R"(\p{Bengali})", 96, 0xF9AD2DD0F6E2193E},
    {R"(\p{Thai})", 86, 0xAE6EFA625DB2528E},
    {R"(\p{Lao})", 83, 0xEDF4C09E5E9A098D},
    {R"(\p{Tibetan})", 207, 0xEF6F2781C19CA07F},
    {R"(\p{Khmer})", 146, 0x4EC2E2671C27CA58},
    {R"(\p{Myanmar})", 243, 0x9C12C0B3589F062D},
    {R"(\p{Armenian})", 96, 0x1003612E685B2030},
    {R"(\p{Georgian})", 173, 0x5CA6119846D32585},
    {R"(\p{Ethiopic})", 523, 0xDA780DBDA7CF0EC8},
    {R"(\p{Tamil})", 123, 0x06B193FDE68D1E10},
    {R"(\p{Telugu})", 100, 0xDC7E52BBF2E9121F},
    {R"(\p{Mongolian})", 168, 0x8A44AAD709A3C8A0},
    {R"(\p{Bopomofo})", 77, 0xBB8B3CD021EB15AB},
    {R"(\p{Common})", 9053, 0xA844CFF91D696A89},
    {R"(\p{Inherited})", 657, 0xE7AC221D08F42C2B},
    {R"(\p{Kawi})", 87, 0xD96690EEBFB89681},
    {R"(\p{Garay})", 69, 0x0158E934F216184A},
    {R"(\w)", 144671, 0x84911BEBD359CA4C},
    {R"(\s)", 25, 0x07DB14E6E1F1A2F5},
    {R"(\d)", 760, 0x42D158E6FB1EEBDF},
    {R"(\h)", 22, 0xAF15325B68B38CF4},
    {R"([^\s\p{L}\p{N}])", 969100, 0x7EE90EA310C9A2D7},
    {R"([^\r\n\p{L}\p{N}])", 969123, 0xF3569E39612D2094},
    {R"(\P{L})", 971036, 0x0A60284C079630EB},
    {R"(\p{^L})", 971036, 0x0A60284C079630EB},
    {R"(\W)", 967393, 0x7A09922937FE4EBC},
    {R"(\S)", 1112039, 0x4F6D9C0065445325},
    {R"(.)", 1112063, 0x6490445B0FE3FB2F},
    {R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])", 141271, 0x2A29989151F6EB3A},
    {R"((?i:[k-s]))", 20, 0x5D38292EB45C6364},
    {R"((?i:[^k-s]))", 1112044, 0x256445A81E2EE20C},
    {R"((?i:[\u03b1-\u03c9]))", 61, 0x25C960FE49B8A047},
    {R"((?i:\p{Lu}))", 1858, 0xFD342E13A57E5D04},
    {R"((?i:[^\p{Lu}]))", 1108798, 0x0ACD9C11E7211271},
    {R"((?i:k))", 3, 0x711AB5693705A744},
    {R"((?i:[\u1c80-\u1c8a]))", 27, 0xD629B7D45F4B96FE},
    {R"([\u4e00-\u9fa5])", 20902, 0x1841D1A599704548},
    {R"((?i:\ua7dc))", 2, 0x73523D9F4F8CDED8},
};
// By what a pre-tokenizer parts from the letter before.
inline constexpr Set kCut[] = {
    {R"({"type": "Digits", "individual_digits": true})", 1924, 0xA1B06BE6929373BB},
    {R"({"type": "Punctuation", "behavior": "Isolated"})", 726, 0x44CC3F6F89DBDB6F},
    {R"({"type": "Whitespace"})", 967397, 0x633DB8B3279E1EAE},
    {R"({"type": "WhitespaceSplit"})", 25, 0x07DB14E6E1F1A2F5},
};
// The hash of all characters between others, normalised.
struct Form {
  const char* type;
  std::uint64_t hash;
};
inline constexpr Form kForms[] = {
    {"NFC", 0x35722C7E7BA41B4F},  {"NFD", 0x0E06531CDACFEE47},       {"NFKC", 0x5B3AF8CB49634847},
    {"NFKD", 0xB1F499C7FC29C054}, {"Lowercase", 0x24A9D5DE809B3E6E},
};
// Pairs that compose since a version that the reference does not know.
inline constexpr const char* kUncomposed[] = {
    "\U000105D2\U00000307", "\U000105DA\U00000307", "\U00011382\U000113C9", "\U00011384\U000113BB",
    "\U0001138B\U000113C2", "\U00011390\U000113C9", "\U000113C2\U000113C2", "\U000113C2\U000113B8",
    "\U000113C2\U000113C9", "\U00011935\U00011930", "\U0001611E\U0001611E", "\U0001611E\U00016129",
    "\U0001611E\U0001611F", "\U00016129\U0001611F", "\U0001611E\U00016120", "\U00016D67\U00016D67",
    "\U00016D63\U00016D67",
};

}  // namespace powerprefill::text::recorded
