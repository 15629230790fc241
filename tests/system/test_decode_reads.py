"""Decoding reads exactly the blocks that the schedule needs, however long the cache is."""

import json
import pathlib
import sys
import unittest

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.checkpoint import Spec, run  # noqa: E402
from support.model_case import ModelCase  # noqa: E402

BLOCK = 16
WINDOW, SINK = 3, 1
MODEL = Spec(layers=3, heads=6, kv_heads=3)
ROW_BYTES = 2 * MODEL.kv_heads * MODEL.head_dim * 4  # key and value
FULL_LAYERS = 1


def power_blocks(query):
    """The paper's pattern: sink, window, and power-of-two distances."""
    blocks = set(range(min(SINK, query + 1))) | set(range(max(0, query - WINDOW + 1), query + 1))
    distance = 1
    while distance <= query:
        blocks.add(query - distance)
        distance *= 2
    return blocks


class DecodeReads(ModelCase):
    SPEC = MODEL

    def decode(self, tokens, new_tokens, attention, ranks=None):
        ids = np.random.default_rng(2).integers(0, MODEL.vocabulary, tokens).astype(np.int32)
        np.save(self.folder / "ids.npy", ids)
        cache = self.folder / "kv.h5"
        result = run(["prefill", "--model", self.model, "--tokens", self.folder / "ids.npy", "--out", cache,
                      "--force", "--block", BLOCK, "--quiet", "--compute", "f32", "--attention",
                      *attention.split()])
        self.assertEqual(result.code, 0, result)
        result = run(["decode", cache, "--model", self.model, "--max-new-tokens", new_tokens, "--quiet",
                      "--report", self.folder / "report.json"], ranks=ranks)
        self.assertEqual(result.code, 0, result)
        return json.loads((self.folder / "report.json").read_text())["bytes_read"]

    def expected(self, tokens, new_tokens, full_layers):
        """Bytes of the file's rows that the fed tokens (all but the last) look at, each block once."""
        total = 0
        for layer in range(MODEL.layers):
            needed = set()
            for position in range(tokens, tokens + new_tokens - 1):
                query = position // BLOCK
                needed |= set(range(query + 1)) if layer < full_layers else power_blocks(query)
            rows = [min(BLOCK, tokens - b * BLOCK) for b in needed if b * BLOCK < tokens]
            total += sum(rows) * ROW_BYTES
        return total

    def test_bytes(self):
        power = f"power --window {WINDOW} --sink {SINK}"
        for tokens in (1, BLOCK, 300, 301 + 16 * BLOCK, 4000):
            for new_tokens in (1, 2, 3 * BLOCK):
                for options, full in ((power, 0), (power + " --full-layers 0", 1)):
                    with self.subTest(tokens=tokens, new_tokens=new_tokens, full=full):
                        self.assertEqual(self.decode(tokens, new_tokens, options),
                                         self.expected(tokens, new_tokens, full))

    def test_more_ranks_than_heads(self):
        power = f"power --window {WINDOW} --sink {SINK}"
        self.assertEqual(self.decode(300, 5, power, ranks=MODEL.kv_heads + 1), self.expected(300, 5, 0))

    def test_growth_is_logarithmic(self):
        power = f"power --window {WINDOW} --sink {SINK}"
        read = [self.decode(64 * BLOCK * 4 ** i - 1, 2, power, ranks=2) for i in range(4)]
        blocks = [count / (MODEL.layers * BLOCK * ROW_BYTES) for count in read]
        for before, after in zip(blocks, blocks[1:]):  # four times the tokens: two blocks more
            self.assertAlmostEqual(after - before, 2, delta=0.1)


if __name__ == "__main__":
    unittest.main()
