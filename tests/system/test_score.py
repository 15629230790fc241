"""`score`: the same bits at any number of ranks and threads; its batches, its failures.

What the values should be is compared in tests/reference."""

import json
import math
import pathlib
import sys
import unittest

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.checkpoint import (Spec, read_raw_safetensors, run, write_checkpoint,  # noqa: E402
                                write_raw_safetensors)
from support.model_case import ModelCase  # noqa: E402

# More outputs than a slice of logits has, and no whole number of panels.
MODEL = Spec(layers=3, heads=4, kv_heads=2, vocabulary=2100)
TOKENS = 16 * 37 + 3
PATTERNS = {
    "power": "--attention power --window 2 --block 16",
    "zigzag": "--attention power --window 2 --block 16 --full-layers 1",
    "bf16": "--attention full --block 16 --compute bf16",
}


class Score(ModelCase):
    SPEC = MODEL

    def setUp(self):
        self.ids = np.random.default_rng(3).integers(0, MODEL.vocabulary, TOKENS).astype(np.int32)

    def score(self, ids, options, ranks=None, code=0):
        np.save(self.folder / "ids.npy", ids)
        out = self.folder / "nll.json"
        result = run(["score", "--model", self.model, "--tokens", self.folder / "ids.npy", "--nll",
                      out, *options.split()], ranks=ranks)
        self.assertEqual(result.code, code, result)
        if code:
            return result.stderr
        (line,) = out.read_text().splitlines()
        return json.loads(line)

    def test_same_bits(self):
        for name, options in PATTERNS.items():
            alone = self.score(self.ids, options + " --threads 1")
            self.assertEqual(len(alone["log_probabilities"]), TOKENS - 1)
            self.assertEqual(len(alone["best"]), TOKENS - 1)
            mean = -math.fsum(alone["log_probabilities"]) / (TOKENS - 1)
            self.assertAlmostEqual(alone["mean_nll"], mean, places=9)
            self.assertAlmostEqual(alone["perplexity"], math.exp(mean), delta=1e-9 * math.exp(mean))
            for ranks, threads in ((2, 1), (3, 2), (7, 1)):
                with self.subTest(pattern=name, ranks=ranks, threads=threads):
                    split = self.score(self.ids, f"{options} --threads {threads}", ranks)
                    for part in ("log_probabilities", "best", "mean_nll"):
                        self.assertEqual(split[part], alone[part])

    def test_short_prompts(self):
        for ranks in (1, 3):
            one = self.score(self.ids[:1], PATTERNS["power"], ranks)
            self.assertEqual((one["log_probabilities"], one["best"], one["perplexity"]), ([], [], 1))
            two = self.score(self.ids[:2], PATTERNS["power"], ranks)
            self.assertEqual(len(two["best"]), 1)
            self.assertLess(two["log_probabilities"][0], 0)

    def test_a_prefix_says_the_same(self):
        """A token's score does not depend on what follows it."""
        whole = self.score(self.ids, PATTERNS["power"])
        part = self.score(self.ids[:300], PATTERNS["power"])
        np.testing.assert_allclose(part["log_probabilities"], whole["log_probabilities"][:299],
                                   rtol=1e-5)

    def test_batch(self):
        lines = [{"id": "a", "tokens": self.ids[:100].tolist()}, {"tokens": self.ids[:33].tolist()}]
        batch = self.folder / "batch.jsonl"
        batch.write_text("\n".join(map(json.dumps, lines)))
        out = self.folder / "batch.json"
        result = run(["score", "--model", self.model, "--batch", batch, "--nll", out,
                      *PATTERNS["power"].split(), "--quiet"], ranks=3)
        self.assertEqual(result.code, 0, result)
        found = [json.loads(line) for line in out.read_text().splitlines()]
        self.assertEqual([line["id"] for line in found], ["a", "2"])
        for line, size in zip(found, (100, 33)):
            alone = self.score(self.ids[:size], PATTERNS["power"])
            self.assertEqual(line["log_probabilities"], alone["log_probabilities"])
        self.assertEqual(len(result.stdout.splitlines()), 2)
        self.assertIn("a: 100 tokens", result.stdout)

        lines[1]["tokens"][5] = MODEL.vocabulary
        batch.write_text("\n".join(map(json.dumps, lines)))
        result = run(["score", "--model", self.model, "--batch", batch, "--nll", out], ranks=2)
        self.assertEqual(result.code, 3, result)
        self.assertIn("line 2 (2): token 5 of the prompt has id 2100", result.stderr)

    def test_failures(self):
        self.assertIn("the prompt is empty", self.score(self.ids[:0], "", 2, code=3))
        self.assertIn("unknown attention", self.score(self.ids, "--attention none", 2, code=2))
        result = run(["score", "--model", self.model, "--tokens", self.folder / "ids.npy", "--nll",
                      self.folder / "no/such.json"], ranks=2)
        self.assertEqual(result.code, 5, result)
        result = run(["score", "--model", self.model], ranks=2)
        self.assertEqual(result.code, 2, result)

        broken = write_checkpoint(self.folder / "broken", MODEL)
        header, data = read_raw_safetensors(broken / "model.safetensors")
        data = bytearray(data)
        begin, end = header["model.norm.weight"]["data_offsets"]
        data[begin:end] = b"\xff" * (end - begin)
        write_raw_safetensors(broken / "model.safetensors", header, bytes(data))
        result = run(["score", "--model", broken, "--tokens", self.folder / "ids.npy"], ranks=3)
        self.assertEqual(result.code, 3, result)
        self.assertIn("not finite", result.stderr)
        self.assertEqual(result.stderr.count("powerprefill: error"), 1, result)


if __name__ == "__main__":
    unittest.main()
