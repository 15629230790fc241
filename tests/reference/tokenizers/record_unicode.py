#!/usr/bin/env python3
"""Records which characters the reference takes for what, for each of the 1,112,064 there are: writes
tests/unit/text_unicode_recorded.hpp. Needs the package tokenizers, and unicodedata2 of the newest Unicode.

    record_unicode.py
"""

import sys
from pathlib import Path

from folders import HERE

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from support import needs  # noqa: E402

needs.modules("tokenizers", "unicodedata2")
import tokenizers  # noqa: E402
import unicodedata2  # noqa: E402
from tokenizers import Regex, normalizers, pre_tokenizers  # noqa: E402

ALL = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
NAMES = """L N P M S Z C Lu Ll Lt Lm Lo LC Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn
Letter Uppercase_Letter Punctuation Decimal_Number Alphabetic Uppercase Lowercase White_Space Emoji Ideographic Alpha
Alnum Upper Lower Space Digit Word ASCII Han Hiragana Katakana Hangul Latin Cyrillic Greek Arabic Hebrew Devanagari
Bengali Thai Lao Tibetan Khmer Myanmar Armenian Georgian Ethiopic Tamil Telugu Mongolian Bopomofo Common Inherited
Kawi Garay""".split()
PATTERNS = [rf"\p{{{name}}}" for name in NAMES] + [
    r"\w", r"\s", r"\d", r"\h", r"[^\s\p{L}\p{N}]", r"[^\r\n\p{L}\p{N}]", r"\P{L}", r"\p{^L}", r"\W", r"\S", r".",
    r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"(?i:[k-s])", r"(?i:[^k-s])", r"(?i:[\u03b1-\u03c9])", r"(?i:\p{Lu})",
    r"(?i:[^\p{Lu}])", r"(?i:k)", r"(?i:[\u1c80-\u1c8a])", r"[\u4e00-\u9fa5]", r"(?i:\ua7dc)"]


def digest(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return value


def of_set(characters):
    return f"{len(characters)}, 0x{digest(b''.join(c.to_bytes(4, 'little') for c in sorted(characters))):016X}"


def matching(pattern):
    """The characters that a pattern matches, many at a time between others that it does not match."""
    replace = normalizers.Replace(Regex(pattern), "\u0003").normalize_str
    between = next((c for c in "\u0002a1 \n" if replace(c) == c), None)
    out = set()
    for begin in range(0, len(ALL), 1024):
        part = ALL[begin:begin + 1024]
        found = replace(between.join(map(chr, part))).split(between) if between else []
        if len(found) != len(part) or 3 in part:
            found = [replace(chr(c)) for c in part]
        out.update(c for c, text in zip(part, found) if text == "\u0003" and c != 3)
    if normalizers.Replace(Regex(pattern), "x").normalize_str("\u0003") == "x":
        out.add(3)
    return out


def cutting(pre_tokenizer):
    """The characters that a pre-tokenizer parts from the letter before."""
    return {c for c in ALL if [text for text, _ in pre_tokenizer.pre_tokenize_str("a" + chr(c))] != ["a" + chr(c)]}


def changed(normalizer):
    """All characters, each between others and marks, normalised together."""
    out = []
    for begin in range(0, len(ALL), 4096):
        text = "".join(f"{chr(c)} a\u0301{chr(c)}\u0323 \u1100{chr(c)}\u0308\u0345" for c in ALL[begin:begin + 4096])
        out.append(normalizer.normalize_str(text))
    return digest("".join(out).encode())


def main():
    lines = ["// Written by tests/reference/tokenizers/record_unicode.py with tokenizers "
             f"{tokenizers.__version__} and Unicode {unicodedata2.unidata_version}.",
             "#pragma once", "", "#include <cstddef>", "#include <cstdint>", "", "namespace powerprefill::text::recorded {", "",
             "// How many characters, and the FNV-1a hash of their numbers in 4 bytes each.",
             "struct Set {", "  const char* pattern;", "  std::size_t count;", "  std::uint64_t hash;", "};",
             "inline constexpr Set kMatched[] = {"]
    lines += [f'    {{R"({pattern})", {of_set(matching(pattern))}}},' for pattern in PATTERNS]
    lines += ["};", "// By what a pre-tokenizer parts from the letter before.", "inline constexpr Set kCut[] = {"]
    for name, one in (('{"type": "Digits", "individual_digits": true}', pre_tokenizers.Digits(individual_digits=True)),
                      ('{"type": "Punctuation", "behavior": "Isolated"}', pre_tokenizers.Punctuation("isolated")),
                      ('{"type": "Whitespace"}', pre_tokenizers.Whitespace()),
                      ('{"type": "WhitespaceSplit"}', pre_tokenizers.WhitespaceSplit())):
        lines.append(f'    {{R"({name})", {of_set(cutting(one))}}},')
    lines += ["};", "// The hash of all characters between others, normalised.", "struct Form {", "  const char* type;",
              "  std::uint64_t hash;", "};", "inline constexpr Form kForms[] = {"]
    lines += [f'    {{"{name}", 0x{changed(getattr(normalizers, name)()):016X}}},'
              for name in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase")]
    nfc, late = normalizers.NFC().normalize_str, []
    for c in ALL:
        pair = unicodedata2.normalize("NFD", chr(c))
        if len(pair) == 2 and unicodedata2.normalize("NFC", pair) == chr(c) and nfc(pair) == pair:
            late.append(pair)
    lines += ["};", "// Pairs that compose since a version that the reference does not know.",
              "inline constexpr const char* kUncomposed[] = {"]
    lines += [f'    "{"".join(f"{chr(92)}U{ord(c):08X}" for c in pair)}",' for pair in late]
    lines += ["};", "", "}  // namespace powerprefill::text::recorded", ""]
    (HERE.parents[1] / "unit" / "text_unicode_recorded.hpp").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
