"""The same bits at any rank and thread count: every dataset of the cache, and decoded tokens."""

import hashlib
import os
import pathlib
import sys
import tempfile
import unittest

import h5py
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.checkpoint import Spec, run, write_checkpoint  # noqa: E402

RANKS = (1, 2, 3, 4, 5, 7, 8)
THREADS = (1, 2)


def digest(path, tokens):
    """A hash over the committed content of every dataset, by name; not over the random generation."""
    hashes = {}
    with h5py.File(path, "r") as file:
        def visit(name, item):
            if not isinstance(item, h5py.Dataset) or name == "commit":
                return
            data = item[:tokens] if item.shape[0] >= tokens and name != "checksums" else item[()]
            hashes[name] = hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()
        file.visititems(visit)
    return hashes


class SameBits(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def prefill(self, model, tokens, ranks, threads, *options):
        out = self.folder / "cache.h5"
        result = run(["prefill", "--model", model, "--tokens", tokens, "--out", out, "--force", "--quiet",
                      "--threads", threads, *options], ranks=ranks, timeout=120)
        self.assertEqual(result.code, 0, result)
        return out

    def decode(self, model, cache, ranks, threads):
        result = run(["decode", cache, "--model", model, "--max-new-tokens", 12, "--quiet", "--threads",
                      threads, "--temperature", 0.8, "--seed", 7], ranks=ranks)
        self.assertEqual(result.code, 0, result)
        return result.stdout

    def tokens_file(self, count, vocabulary):
        path = self.folder / f"tokens{count}.npy"
        np.save(path, np.random.default_rng(count).integers(0, vocabulary, count).astype(np.int32))
        return path

    def check_all(self, model, count, vocabulary, ranks, threads, *options):
        tokens = self.tokens_file(count, vocabulary)
        expected = text = None
        for p in ranks:
            for t in threads:
                cache = self.prefill(model, tokens, p, t, *options)
                found = digest(cache, count)
                generated = self.decode(model, cache, p, t)
                if expected is None:
                    expected, text = found, generated
                    self.assertEqual(len(generated.split()), 12)
                self.assertEqual(found, expected, f"{p} ranks x {t} threads, {options}")
                self.assertEqual(generated, text, f"{p} ranks x {t} threads, {options}")

    def test_small_blocks(self):
        # 39 blocks of 16: rank boundaries fall into GEMM tiles, and the last block is ragged.
        model = write_checkpoint(self.folder / "model", Spec(layers=3, heads=6, kv_heads=3))
        for pattern in ("power", "sliding", "full"):
            with self.subTest(pattern):
                self.check_all(model, 16 * 38 + 5, 64, RANKS, THREADS, "--attention", pattern,
                               "--block", 16, "--window", 3, "--save-hidden")

    def test_many_tiles(self):
        # 25 GEMM tiles, the last one ragged, and rows as long as a real model's.
        spec = Spec(family="qwen2", layers=2, hidden=896, heads=14, kv_heads=2, head_dim=64,
                    feed_forward=1216, vocabulary=500, tied=True)
        model = write_checkpoint(self.folder / "model", spec)
        flags = pathlib.Path("/proc/cpuinfo").read_text()
        cores = ["Haswell"] if "avx2" in flags else []
        cores += ["SkylakeX"] if "avx512f" in flags else []
        self.addCleanup(os.environ.pop, "OPENBLAS_CORETYPE", None)
        for core in cores:
            with self.subTest(core):
                os.environ["OPENBLAS_CORETYPE"] = core
                self.check_all(model, 24 * 256 + 77, 500, (1, 3, 5), (1, 2), "--attention", "power",
                               "--kv-dtype", "bf16")


if __name__ == "__main__":
    unittest.main()
