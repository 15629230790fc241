"""Tokenizers as checkpoints have them, and hostile ones, through the program.

    POWERPREFILL=build/powerprefill /usr/bin/python3 tests/system/test_tokenizer_files.py [-v] [NAME ...]
"""

import json
import sys
import tempfile
import unittest
from pathlib import Path

import h5py

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import checkpoint as ck  # noqa: E402
import tokenizer as tk  # noqa: E402

BEGIN = "<|begin|>"
TOKENIZER = tk.Tokenizer("the quick brown fox jumps over the lazy dog", merges=10, special=[BEGIN])
OPTIONS = ["--threads", 1, "--attention", "full", "--quiet"]
# Two pieces: the unknown one, and one that begins with a NUL, at which SentencePiece throws.
THROWING = b"\x0a\x09\x0a\x05<unk>\x18\x02\x0a\x09\x0a\x02\x00a\x15\x00\x00\x00\x00"


class TokenizerFiles(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory(prefix="powerprefill-tokenizer-")
        self.addCleanup(holder.cleanup)
        self.here = Path(holder.name)
        self.model = ck.write_checkpoint(self.here / "model", ck.Spec(vocabulary=TOKENIZER.size))
        self.file = self.model / "tokenizer.json"

    def prefill(self, text="the fox"):
        return ck.run(["prefill", "--model", self.model, *OPTIONS, "--prompt", text, "--out", self.here / "kv.h5"], None)

    def write(self, **changes):
        TOKENIZER.write(self.model, BEGIN)
        self.file.write_text(json.dumps({**json.loads(self.file.read_text()), **changes}))

    def refused(self):
        result = self.prefill()
        self.assertEqual(result.code, 3, result)
        self.assertEqual(result.stderr.count("powerprefill: error"), 1, result)
        self.assertLess(len(result.stderr), 2000)

    def test_the_checkpoint_wants_a_begin_token(self):
        self.write(post_processor={"type": "ByteLevel"})
        (self.model / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": True, "bos_token": {"content": BEGIN}}))
        result = self.prefill()
        self.assertEqual(result.code, 0, result)
        with h5py.File(self.here / "kv.h5") as file:
            self.assertEqual(file["tokens"][:2].tolist(), [TOKENIZER.special[BEGIN], TOKENIZER.encode("the")[0]])

    def test_sentencepiece_throws(self):
        (self.model / "tokenizer.model").write_bytes(THROWING)
        self.refused()

    def test_hostile_tokenizers(self):
        stages = {"type": "Sequence", "pretokenizers": [{"type": "Digits"}] * 100_000}
        split = {"type": "Split", "pattern": {"Regex": "(?:[a-z ]|[a-z ])*$x"}, "behavior": "Isolated"}
        grows = {"type": "Replace", "pattern": {"String": ""}, "content": "x" * (1 << 20)}
        for changes in ({"pre_tokenizer": stages}, {"normalizer": grows}):
            self.write(**changes)
            self.refused()
        self.write(pre_tokenizer=split)
        text = self.here / "long.txt"
        text.write_text("the fox " * 20 + "x\nx")
        result = ck.run(["prefill", "--model", self.model, *OPTIONS, "--prompt-file", text, "--out", self.here / "kv.h5"], None)
        self.assertEqual(result.code, 3, result)

    def test_nested_values(self):
        deep = "[" * 200_000 + "]" * 200_000
        self.file.write_text(f'{{"model": {{"type": "BPE", "vocab": {{"a": {deep}}}}}}}')
        self.refused()
        self.file.write_text('{"model": 1e999}')
        self.refused()


if __name__ == "__main__":
    unittest.main()
