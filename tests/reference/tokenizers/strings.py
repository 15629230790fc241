"""Awkward texts for tokenizers, the same in every run."""

import random

SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n\n", " \n", "\n ", "\v", "\f", "\x85", "\xa0", "\u1680",
          "\u180e", "\u2003", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b", "\ufeff", "\u2060"]

WORDS = [
    "", "a", "Hello, world!", "The quick brown fox jumps over the lazy dog.", "don't I'll we'VE they'RE it'S I'D 'tis",
    "it\u2019s \u2018quoted\u2019 \u201ctext\u201d", "it'\u017f 't 'T 'll 'LL 'lL", "K \u212a k \u017f",
    "camelCaseAndPascalCase snake_case_name kebab-case SCREAMING_CASE", "x=1;y+=2;z**=3;//comment\n\treturn(x);",
    "    def f(self):\n        return {'a': [1, 2, 3]}\n\n\nclass A:\n\tpass\n", "<html><body class=\"x\">&amp;</body></html>",
    "0", "1234567890", "12 345 6,789.01 1e-10 0xFF 1/2", "\u00bd\u00b2\u2460\u2167\u0667\u096a\uff15", "3.14159265358979323846",
    "2024-02-30T23:59:60Z", "+1 (555) 010-9999", "$9.99 \u20ac10 \u00a35 \u00a5100 100%", "!!!???...", "--- === *** ~~~ ###",
    "...\r\n...", "a,b;c:d|e/f\\g", "user@example.org https://example.org/a?b=c&d=%20#e", "\\n \\t \\u0041", "C:\\dir\\file.txt",
    "caf\u00e9 cafe\u0301", "\u00c5 A\u030a \u212b", "\u1e9b\u0323 \u017f\u0323\u0307", "e\u0301\u0323 e\u0323\u0301", "\u0958 \u0915\u093c",
    "\uac00 \u1100\u1161 \uac01 \u1100\u1161\u11a8", "\ufb01 \ufb03 \u01c6 \u2126 \u2460 \uff21\uff11", "<\u0338 =\u0338 >\u0338",
    "\u0301 \u0301a a\u0301\u0302\u0303\u0304\u0305", "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319a",
    "na\u00efve fa\u00e7ade \u00fcber stra\u00dfe \u1e9e \u0130stanbul \u0131\u015f\u0131k", "\u00bfQu\u00e9 tal? \u00a1Ol\u00e9!",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0419 \u0418\u0306", "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5 \u03ba\u03cc\u03c3\u03bc\u03b5 \u03a3\u03c2",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd \u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u0661\u0662\u0663 \ufefb",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e", "\u0bb5\u0ba3\u0b95\u0bcd\u0b95\u0bae\u0bcd", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01", "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c\u3002\u30ab\u30bf\u30ab\u30ca \uff76\uff80\uff76\uff85 \u304c \u304b\u3099",
    "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4", "\u10d2\u10d0\u10db\u10d0\u10e0\u10ef\u10dd\u10d1\u10d0", "\u0531\u0580\u0565\u0582", "\u1200\u1208\u121d",
    "\u1820\u180b\u1821 a\u180eb", "\u0f56\u0f7c\u0f51\u0f0b", "\u1780\u17d2\u1798\u17c2\u179a", "\ud7b0\ud7cb", "\U00020000\U0002a6d6 \u9fa5",
    "\U0001d400\U0001d7ce", "\U00010330\U00010331", "\U0001f600\U0001f923 \U0001f44d\U0001f3fd", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "\U0001f1e9\U0001f1ea\U0001f1ef\U0001f1f5", "\u2764\ufe0f \u2764 \u263a\ufe0e", "1\ufe0f\u20e3 #\ufe0f\u20e3", "\U0001f3f4\U000e0067\U000e0062\U000e007f",
    "\x00", "a\x00b", "\x01\x02\x1b[31mred\x1b[0m\x7f", "\x80\x9f\xad", "\ue000\uf8ff \U000f0000", "\ufffd \ufffe \uffff", "\U0010ffff",
    "\u202eabc\u202c \u200fx\u200e", "a\u200bb\u200cc\u200dd", "\ufeffstart", "x\u00adhy\u00adphen", "\u2070\u00b9\u2082 \u2211\u222b\u221a\u221e \u2264\u2260",
    "\u2500\u2502\u256d\u2588\u2591", "\u2190\u2192\u21d2 \u2022 \u2026 \u2014\u2013", "\u2160\u2161 \u3220 \u32ff", "\u00aa \u00ba \u02b0 \u1d2c",
    "_a __b__ a_1", "\u203fa\ufe4fb", "\u0660\u0661\u0662\u0663\u0664 \u09e6\u09e7", "\u4e00\u4e8c\u4e09 \u3007", "a1b2c3 4d5e6f", "v1.2.3-rc4+build.5",
    "THE END", "ThE eNd", "I\u2019m", "'s", " 's", "''s", "'S's's", "a's'b", "\u00b4s `s", "l'\u00e9t\u00e9 aujourd'hui", "o'clock rock'n'roll",
]

SPECIAL = [
    "<|endoftext|>", "a<|endoftext|>b", " <|endoftext|> ", "<|endoftext|><|endoftext|>", "<|endoftext", "<|ENDOFTEXT|>", "< |endoftext|>",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", "<|im_start|><|im_end", "<tool_call>{\"a\": 1}</tool_call>",
    "<think>", "</think>x", "<|vision_start|><|image_pad|><|vision_end|>", "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
    "<|begin_of_text|>", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", "<|reserved_special_token_0|>",
    "<|reserved_special_token_10|>", "<|reserved_special_token_", "<s>", "</s>", "<s> a </s>", "<unk>", "a<unk>b", "[INST] Hi [/INST]", "<0x0A>", "<0xE9>",
    "\u2581a \u2581\u2581", "\u0120a \u010a", "<|\u200bim_start|>", "e\u0301<|im_end|>\u0301e", "<|im_end|> \n <|im_end|>",
]


def strings():
    result = list(WORDS) + list(SPECIAL)
    for space in SPACES:
        result += [space, f"a{space}b", f"{space}{space}a{space}{space}", f"1{space}2{space}\n{space}x", f"!{space}?"]
    result += [c * n for c in ("a", " ", "\n", "\r\n", "\t", "0", "7", "!", "-", "=", "\u00e9", "\u4e2d", "\U0001f600", "ab", "a ", " \n", "\u0301")
               for n in (7, 100)]
    result += [" " * n + "x" for n in range(1, 20)]
    choice = random.Random(1)
    ranges = [(0x20, 0x7f), (0, 0x20), (0x80, 0x250), (0x300, 0x370), (0x370, 0x600), (0x900, 0xe00), (0x2000, 0x2400), (0x3000, 0x3200),
              (0x4e00, 0x9fa6), (0xac00, 0xd7a4), (0xf900, 0xfb00), (0xff00, 0xfff0), (0x1f300, 0x1f650)]
    for _ in range(60):
        low, high = choice.choice(ranges)
        result.append("".join(chr(choice.randrange(low, high)) for _ in range(choice.randrange(1, 24))))
    parts = [w for w in WORDS if w] + SPECIAL + SPACES
    for _ in range(60):
        result.append("".join(choice.choice(parts) for _ in range(choice.randrange(2, 7))))
    return result


def id_rows(vocabulary):
    """Rows of ids that no encoder made: most of them are not whole characters."""
    choice = random.Random(2)
    return [[choice.randrange(vocabulary) for _ in range(choice.randrange(1, 16))] for _ in range(60)] + [
        [choice.randrange(min(vocabulary, 700)) for _ in range(12)] for _ in range(60)]
