"""Small folders of tokenizers in the shapes of published checkpoints: what stands beside tokenizer.json or
tokenizer.model decides about added tokens and what is put around a text.

Each case has the texts' ids of transformers 5 in folders.json (record_folders.py). `puts` are the tokens that
powerprefill puts before and behind a text, and transformers 5 does not: the checkpoint's explicit wish.
"""

import json
import struct
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "support"))
import tokenizer as tk  # noqa: E402

TEXTS = ["the fox", " the", "  the dog", "the <x> dog<new> <n2>  fox", "then<EOS> the<EOS>fox<EOS>  other", "<BOS>the", "",
         " ", "\u2581the", "\u00e9\nx \u4e2d", "the<u>fox<u> fox", "<x> <x>the"]
BYTES = tk.Tokenizer("the quick brown fox jumps over the lazy dog and then the other dog", 20, ["<BOS>", "<EOS>", "<x>"])
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
# Of some classes transformers has patterns of its own.
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
NOTHING = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}],
           "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {}}


def token(content, **how):
    return {"content": content, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False,
            "special": True, **how}


def with_type(content):
    return {"__type": "AddedToken", **token(content)}


def write_json(post, added=None, decoder=True, pattern=None):
    """tokenizer.json with this post-processor; "template": the token that begins a text."""
    def write(folder):
        BYTES.write(folder, "<BOS>")
        path = folder / "tokenizer.json"
        file = json.loads(path.read_text())
        for part in file["pre_tokenizer"]["pretokenizers"][1:] + [file["decoder"]]:
            part.update(add_prefix_space=False, trim_offsets=True, use_regex=False)
        single = file["post_processor"]["single"]
        file["post_processor"]["pair"] = single + [{"Sequence": {"id": "B", "type_id": 1}}]
        file.update(truncation=None, padding=None)
        if post != "template":
            file["post_processor"] = post
        if added is not None:
            file["added_tokens"] = [{"id": id, **token(content, **how)} for id, content, how in added]
        if pattern is not None:
            file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern
        if not decoder:
            file["decoder"] = None
        path.write_text(json.dumps(file))
    return write


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    """A field of a protobuf message: an integer, a float, or bytes."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


NORMAL, UNKNOWN, CONTROL, USER, BYTE = 1, 2, 3, 4, 6
MERGED = ["th", "the", "\u2581the", "\u2581t", "he", "fo", "fox", "\u2581f", "\u2581fox", "do", "dog", "\u2581d",
          "\u2581dog", "n", "\u2581", "t", "h", "e", "f", "o", "x", "d", "g", "r", "\u2581the\u2581", "ther"]
PIECES = ([("<unk>", UNKNOWN), ("<BOS>", CONTROL), ("<EOS>", CONTROL), ("<u>", USER)]
          + [(f"<0x{byte:02X}>", BYTE) for byte in range(256)] + [(piece, NORMAL) for piece in MERGED])


def sentencepiece(prefix=True):
    """tokenizer.model: ModelProto of sentencepiece_model.proto."""
    pieces = b"".join(field(1, field(1, piece.encode()) + field(2, -float(id) if kind == NORMAL else 0.0) + field(3, kind))
                      for id, (piece, kind) in enumerate(PIECES))
    trainer = (field(3, 2) + field(4, len(PIECES)) + field(35, 1) + field(40, 0) + field(41, 1) + field(42, 2)
               + field(43, (1 << 64) - 1) + field(45, b"<unk>") + field(46, b"<BOS>") + field(47, b"<EOS>"))
    normalizer = field(1, b"identity") + field(3, int(prefix)) + field(4, 0) + field(5, 1)
    return pieces + field(2, trainer) + field(3, normalizer)


def write_model(**how):
    return lambda folder: (folder / "tokenizer.model").write_bytes(sentencepiece(**how))


class Case:
    def __init__(self, name, write, config=None, model_type="llama", puts=((), ()), notes=0, **files):
        self.name, self.writer, self.config, self.model_type = name, write, config, model_type
        self.puts, self.notes, self.files = puts, notes, files

    def write(self, folder):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.writer(folder)
        (folder / "config.json").write_text(json.dumps({"model_type": self.model_type}))
        if self.config is not None:
            (folder / "tokenizer_config.json").write_text(json.dumps(self.config))
        for name, content in self.files.items():
            (folder / f"{name}.json").write_text(json.dumps(content))
        return folder


NAMES = {"bos_token": "<BOS>", "eos_token": "<EOS>"}
FAST = {**NAMES, "tokenizer_class": "PreTrainedTokenizerFast"}
LLAMA = {**NAMES, "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizer"}
KNOWN = {str(BYTES.special[name]): token(name) for name in BYTES.special}
BEGIN = (("<BOS>",), ())
NEXT = BYTES.size
SPM_NEXT = len(PIECES)

CASES = [
    # Published shapes of tokenizer.json.
    Case("deepseek-r1-distill", write_json(BYTE_LEVEL), puts=BEGIN, notes=1,
         config={"bos_token": with_type("<BOS>"), "eos_token": with_type("<EOS>"), "add_bos_token": True,
                 "add_eos_token": False, "legacy": True, "tokenizer_class": "LlamaTokenizerFast"}),
    Case("llama-3", write_json({"type": "Sequence", "processors": [BYTE_LEVEL, NOTHING]}),
         config={**FAST, "added_tokens_decoder": KNOWN}),
    Case("llama-3-template", write_json("template"), config={**FAST, "added_tokens_decoder": KNOWN}),
    Case("qwen2", write_json(BYTE_LEVEL, pattern=QWEN), model_type="qwen2",
         config={"add_bos_token": False, "added_tokens_decoder": KNOWN, "bos_token": None, "eos_token": "<EOS>",
                 "additional_special_tokens": ["<x>"], "tokenizer_class": "Qwen2Tokenizer"}),
    Case("qwen3-no-flags", write_json(BYTE_LEVEL), model_type="qwen3", config=FAST),
    Case("mistral", write_json("template"), model_type="mistral",
         config={**NAMES, "add_bos_token": True, "add_eos_token": False, "tokenizer_class": "PreTrainedTokenizerFast"}),
    Case("phi", write_json(BYTE_LEVEL, pattern=GPT2), model_type="phi",
         config={**NAMES, "unk_token": "<EOS>", "add_prefix_space": False, "tokenizer_class": "CodeGenTokenizer"},
         special_tokens_map={"bos_token": "<EOS>"}, added_tokens={"<new>": NEXT, "<n2>": NEXT + 1}),
    Case("phi-3", write_json(NOTHING, added=[(276, "<BOS>", {}), (277, "<EOS>", {"rstrip": True}), (278, "<x>", {"rstrip": True})]),
         config={**FAST, "add_bos_token": False}),
    # Flags against the template, and where nothing else is said.
    Case("template-against-flags", write_json("template"), config={**FAST, "add_bos_token": False, "add_eos_token": True}, notes=2),
    Case("empty-template-against-flag", write_json(NOTHING), config={**FAST, "add_bos_token": True}, notes=1),
    Case("no-post-processor", write_json(None), config={**FAST, "add_bos_token": True, "add_eos_token": True},
         puts=(("<BOS>",), ("<EOS>",)), notes=2),
    Case("flag-without-token", write_json(BYTE_LEVEL), config={"add_bos_token": True, "tokenizer_class": "PreTrainedTokenizerFast"},
         notes=1),
    Case("nothing-beside", write_json(BYTE_LEVEL)),
    Case("no-decoder", write_json("template", decoder=False), config=FAST),
    # Added tokens.
    Case("decoder-strips", write_json(BYTE_LEVEL), notes=1, config={**FAST, "added_tokens_decoder": {
        **KNOWN, "278": token("<x>", lstrip=True)}}),
    Case("decoder-alone", write_json(BYTE_LEVEL, added=[]), config={**FAST, "added_tokens_decoder": {
        **KNOWN, "278": token("<x>", rstrip=True)}}, notes=0),
    Case("decoder-new", write_json(BYTE_LEVEL), config={**FAST, "added_tokens_decoder": {
        **KNOWN, str(NEXT): token("<new>", rstrip=True), str(NEXT + 1): token("<n2>", special=False)}}),
    Case("decoder-gap", write_json(BYTE_LEVEL), notes=1, config={**FAST, "added_tokens_decoder": {
        str(NEXT + 9): token("<new>"), str(NEXT + 2): token("<n2>"), "5": token("<x>")}}),
    Case("added-tokens", write_json(BYTE_LEVEL), config=FAST, added_tokens={"<new>": NEXT, "<n2>": NEXT + 1}),
    Case("added-tokens-and-decoder", write_json(BYTE_LEVEL), config={**FAST, "added_tokens_decoder": KNOWN},
         added_tokens={"<new>": NEXT}, special_tokens_map={"pad_token": "<n2>"}),
    Case("special-tokens-map", write_json(BYTE_LEVEL), config=FAST,
         special_tokens_map={"bos_token": token("<new>"), "additional_special_tokens": ["<n2>", "<x>"]}),
    Case("pad-in-vocabulary", write_json(BYTE_LEVEL), config={**FAST, "pad_token": "the"}),
    Case("model-specific", write_json(BYTE_LEVEL), config={**FAST, "image_token": "<new>", "extra_special_tokens": {"a": "<n2>"}}),
    # tokenizer.model.
    Case("spm-legacy", write_model(), config={**LLAMA, "add_bos_token": True, "legacy": True}, model_type="mistral"),
    Case("spm-not-legacy", write_model(), config={**LLAMA, "add_bos_token": True, "add_eos_token": True, "legacy": False},
         model_type="mistral"),
    Case("spm-llama", write_model(), config={**LLAMA, "add_bos_token": True}),
    Case("spm-llama-not-legacy", write_model(), config={**LLAMA, "add_bos_token": False, "legacy": False}),
    Case("spm-silent", write_model(), config=LLAMA, model_type="mistral", puts=BEGIN, notes=1),
    Case("spm-no-prefix", write_model(prefix=False), config={**LLAMA, "add_bos_token": False, "legacy": False}, model_type="mistral"),
    Case("spm-added-tokens", write_model(), config={**LLAMA, "add_bos_token": True, "legacy": False}, model_type="mistral",
         added_tokens={"<new>": SPM_NEXT, "<n2>": SPM_NEXT + 1}),
    Case("spm-decoder", write_model(), model_type="mistral", config={**LLAMA, "add_bos_token": True, "legacy": False, "added_tokens_decoder": {
        "0": token("<unk>"), "1": token("<BOS>"), "2": token("<EOS>"), str(SPM_NEXT): token("<x>", lstrip=True, rstrip=True)}}),
]
