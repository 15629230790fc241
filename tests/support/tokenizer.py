"""A small byte-level BPE tokenizer in plain Python: trained on a line of text, written as tokenizer.json, and
applied by the definition. For texts whose words are ASCII letters with a space before."""

import json
import re
from collections import Counter
from pathlib import Path

PATTERN = r" ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+"


def alphabet():
    """The character that spells each byte, as GPT-2 has it."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte if byte in plain else 256 + rest.index(byte)) for byte in range(256)}


class Tokenizer:
    def __init__(self, text, merges, special):
        self.spell = alphabet()
        self.ids = {self.spell[byte]: byte for byte in range(256)}
        self.merges = {}
        words = Counter(tuple(self.letters(word)) for word in re.findall(PATTERN, text))
        for _ in range(merges):
            pairs = Counter()
            for word, count in words.items():
                for pair in zip(word, word[1:]):
                    pairs[pair] += count
            best = max(sorted(pairs), key=pairs.get)
            self.merges[best] = len(self.merges)
            self.ids.setdefault("".join(best), len(self.ids))
            words = Counter({tuple(self.merge(word, best)): count for word, count in words.items()})
        self.special = {name: len(self.ids) + i for i, name in enumerate(special)}

    def letters(self, word):
        return [self.spell[byte] for byte in word.encode()]

    @staticmethod
    def merge(word, pair):
        out = []
        for letter in word:
            if out and (out[-1], letter) == pair:
                out[-1] += letter
            else:
                out.append(letter)
        return out

    def plain(self, text):
        """Ids of a text without special tokens."""
        result = []
        for word in re.findall(PATTERN, text):
            word = self.letters(word)
            while known := [pair for pair in zip(word, word[1:]) if pair in self.merges]:
                word = self.merge(word, min(known, key=self.merges.get))
            result += [self.ids[letter] for letter in word]
        return result

    def encode(self, text):
        """Ids of a text with special tokens; none are added."""
        parts = re.split("(" + "|".join(map(re.escape, self.special)) + ")", text)
        return [id for part in parts for id in ([self.special[part]] if part in self.special else self.plain(part))]

    @property
    def size(self):
        return len(self.ids) + len(self.special)

    def write(self, folder, begin):
        """tokenizer.json; the special token `begin` is put before a text."""
        added = [{"id": id, "content": name, "special": True, "normalized": False, "lstrip": False, "rstrip": False,
                  "single_word": False} for name, id in self.special.items()]
        template = {"type": "TemplateProcessing",
                    "single": [{"SpecialToken": {"id": begin, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                    "special_tokens": {begin: {"id": begin, "ids": [self.special[begin]], "tokens": [begin]}}}
        split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
        tokenizer = {"version": "1.0", "added_tokens": added, "normalizer": None,
                     "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
                     "post_processor": template, "decoder": {"type": "ByteLevel"},
                     "model": {"type": "BPE", "vocab": self.ids, "merges": [list(pair) for pair in self.merges]}}
        Path(folder, "tokenizer.json").write_text(json.dumps(tokenizer))
