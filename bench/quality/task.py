"""The synthetic tasks: pass keys lost in filler text, as text and as token ids.

A prompt is filler sentences with needles between them and a question at its end:

  passkey  "The pass key is 48213. Remember it. 48213 is the pass key."   "What is the pass key?"
  two      a red and a blue key, at any two places                        "What is the red pass key?"
  chain    the blue key, and later "The red pass key is the same as the blue pass key."

The answer is five digits. The vocabulary is made from the words below: bytes, and merges that put
each word together letter by letter, so that every word is one token and any text can be encoded."""

import json
import random
import re
from pathlib import Path

DIGITS = 5
COLOURS = ("", "red ", "blue ")  # the slots of keys
END = "<|end|>"

NOUNS = """apple baker bell bird boat book bridge candle castle cat chair church clock cloud coat corner
cup dog door farm field fire fish forest garden gate girl hill horse house island king lake lamp letter
man market mill moon mountain path river road rope sea ship stone table tower tree wall wind window
woman wood""".split()
ADJECTIVES = """big bright brown calm clean cold dark deep dry empty fast gentle golden great green grey
heavy high hot kind large light little long loud narrow new old open pale plain poor proud quick quiet
rich round sharp short silent slow small soft strong tall thin warm white wide wild young""".split()
VERBS = """broke built called carried crossed drew felt followed found held helped hid kept knew left
liked lost made met moved opened passed pulled pushed reached sang saw sold stopped took touched turned
used watched wrote""".split()
PLACES = "above across after before behind below beside by in inside near on outside over past under".split()
TIMES = "again always early late never now often once soon then today yesterday".split()
TEMPLATES = (
    "The {a} {n} {v} the {n} {p} the {a} {n}.",
    "A {n} {v} the {a} {n}.",
    "{t} the {n} {v} a {a} {n} {p} the {n}.",
    "We {v} the {n} and the {a} {n} {t}.",
    "It was {a} and {a} {p} the {n}.",
    "The {n} {p} the {n} was {a}, but the {n} was not.",
)
NEEDLE = "The {c}pass key is {k}. Remember it. {k} is the {c}pass key."
SAME = "The {c}pass key is the same as the {o}pass key."
QUESTION = "What is the {c}pass key? The {c}pass key is"
# Llama 3's and Qwen2's way to split a text, with single digits.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
WORD = re.compile(r"[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")  # SPLIT, for ASCII


class Vocabulary:
    """Token ids of the words of all texts here."""

    def __init__(self):
        plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
        rest = [byte for byte in range(256) if byte not in plain]
        self.spell = {byte: chr(byte if byte in plain else 256 + rest.index(byte)) for byte in range(256)}
        self.ids = {self.spell[byte]: byte for byte in range(256)}
        self.merges = []
        texts = [*TEMPLATES, NEEDLE, SAME, QUESTION, *COLOURS]
        inner = sorted({word for text in texts for word in re.findall(r"[A-Za-z]+", re.sub(r"\{.\}", "", text))} |
                       {*NOUNS, *ADJECTIVES, *VERBS, *PLACES, *TIMES, *(time.capitalize() for time in TIMES)})
        first = [word for word in inner if word[0].isupper()]  # also without a space before them
        for word in [" " + word for word in inner] + first:
            letters = [self.spell[byte] for byte in word.encode()]
            for end in range(1, len(letters)):
                pair = ("".join(letters[:end]), letters[end])
                if pair not in self.merges:
                    self.merges.append(pair)
                    self.ids["".join(pair)] = len(self.ids)
        self.end = len(self.ids)
        self.size = self.end + 1
        self.spelled = {id: token for token, id in self.ids.items()}
        self.byte = {letter: byte for byte, letter in self.spell.items()}

    def encode(self, text):
        """Ids of a text of words from the lists, digits and marks."""
        ids = []
        for word in WORD.findall(text):
            letters = "".join(self.spell[byte] for byte in word.encode())
            if letters in self.ids:
                ids.append(self.ids[letters])
            else:
                ids += [self.ids[letter] for letter in letters]
        return ids

    def decode(self, ids):
        letters = "".join("" if id == self.end else self.spelled[id] for id in ids)
        return bytes(self.byte[letter] for letter in letters).decode(errors="replace")

    def write(self, folder):
        """tokenizer.json, as the library `tokenizers` reads it."""
        split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
        added = {"id": self.end, "content": END, "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": False, "special": True}
        model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                 "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": self.ids,
                 "merges": [" ".join(pair) for pair in self.merges]}
        tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [added],
                     "normalizer": None,
                     "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
                     "post_processor": None, "decoder": {**byte_level, "add_prefix_space": True}, "model": model}
        Path(folder, "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))


class Filler:
    """Sentences without end; made once, cut anywhere between two of them."""

    def __init__(self, vocabulary, sentences, seed):
        draw = random.Random(seed)
        lists = {"a": ADJECTIVES, "n": NOUNS, "v": VERBS, "p": PLACES, "t": TIMES}
        self.ids, self.starts = [], []
        for _ in range(sentences):
            text = re.sub(r"\{(.)\}", lambda kind: draw.choice(lists[kind[1]]), draw.choice(TEMPLATES))
            self.starts.append(len(self.ids))
            self.ids += vocabulary.encode(" " + text[0].upper() + text[1:])

    def cut(self, draw, tokens):
        """Whole sentences of at most `tokens` tokens: (their ids, where each begins)."""
        first = draw.randrange(len(self.starts) // 2)
        begin, last = self.starts[first], first
        while last < len(self.starts) and self.starts[last] - begin <= tokens:
            last += 1
        if self.starts[last - 1] - begin > tokens or last == len(self.starts):
            raise ValueError("the filler is too short")
        ends = [start - begin for start in self.starts[first:last]]  # the last one ends the piece
        return self.ids[begin:begin + ends[-1]], ends


class Prompt:
    """`ids`, of which the last `answer` are the answer; `needles` = [(slot, digits, begin, end)]: the key
    of the slot is known from `end` on."""

    def __init__(self, ids, answer, needles):
        self.ids, self.answer, self.needles = ids, answer, needles


def make_prompt(vocabulary, filler, draw, task, tokens, depths):
    """A prompt of at most `tokens` tokens, its answer included; `depths`, in [0, 1], says where in
    the filler the needles are: one for `passkey`, two for the others."""
    keys = ["".join(draw.choice("0123456789") for _ in range(DIGITS)) for _ in range(2)]
    if task == "passkey":
        slots, needles = [(0, keys[0])], [NEEDLE.format(c="", k=keys[0])]
    elif task == "two":
        order = draw.sample((1, 2), 2)
        slots = list(zip(order, keys))
        needles = [NEEDLE.format(c=COLOURS[slot], k=key) for slot, key in slots]
    elif task == "chain":
        source, copy = draw.sample((1, 2), 2)
        slots = [(source, keys[0]), (copy, keys[0])]
        needles = [NEEDLE.format(c=COLOURS[source], k=keys[0]),
                   SAME.format(c=COLOURS[copy], o=COLOURS[source])]
    else:
        raise ValueError(f"unknown task {task}")
    asked, key = slots[-1] if task == "chain" else draw.choice(slots)
    needles = [vocabulary.encode(" " + needle) for needle in needles]
    question = vocabulary.encode(" " + QUESTION.format(c=COLOURS[asked]))
    answer = vocabulary.encode(f" {key}.")
    room = tokens - sum(map(len, needles)) - len(question) - len(answer)
    ids, ends = filler.cut(draw, room)
    said = []
    places = [min(ends, key=lambda end, depth=depth: abs(end - depth * len(ids))) for depth in sorted(depths)]
    result, done = [], 0
    for place, needle, (slot, digits) in zip(places, needles, slots):
        result += ids[done:place] + needle
        done = place
        said.append((slot, [int(digit) for digit in digits], len(result) - len(needle), len(result)))
    result += ids[done:] + question
    return Prompt(result + answer, len(answer), said)
