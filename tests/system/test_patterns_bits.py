"""The same bits at 1 to 8 ranks for every pattern and partition; messages and buffers as planned."""

import concurrent.futures
import json
import pathlib
import sys
import tempfile
import unittest

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.checkpoint import Spec, run  # noqa: E402
from support.model_case import ModelCase  # noqa: E402
from test_same_bits import digest  # noqa: E402

RANKS = range(1, 9)
BLOCK = 16
BLOCKS = 39
TOKENS = BLOCK * (BLOCKS - 1) + 5  # rank boundaries fall into GEMM tiles, the last block is ragged
MODEL = Spec(layers=3, heads=6, kv_heads=3)
BLOCK_BYTES = 2 * BLOCK * MODEL.kv_heads * MODEL.head_dim * 4  # keys and values of one layer
SHARES_IN_FLIGHT = 4
PATTERNS = {
    "power": "--attention power --window 2 --sink 1",
    "sliding": "--attention sliding --window 4 --sink 6",
    "stride": "--attention stride --window 3 --stride 8 --sink 1",
    "dilated": "--attention dilated --window 10",
    "longnet": "--attention longnet",
    "mask": "--attention mask:{distances} --sink 2",
    "full": "--attention full",
    "hybrid": "--attention power --window 2 --full-layers 0,2",
}


class PatternBits(ModelCase):
    SPEC = MODEL

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tokens = cls.folder / "tokens.npy"
        random = np.random.default_rng(5)
        np.save(cls.tokens, random.integers(0, MODEL.vocabulary, TOKENS).astype(np.int32))
        cls.distances = cls.folder / "distances.txt"
        cls.distances.write_text("0 1 3 9 27\n")

    def prefill(self, options, ranks, partition):
        """(digest of the cache, report) of a run; runs may overlap."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            folder = pathlib.Path(name)
            result = run(["prefill", "--model", self.model, "--tokens", self.tokens, "--block", BLOCK,
                          "--out", folder / "cache.h5", "--report", folder / "report.json", "--quiet",
                          "--threads", 1, "--reserve", 0, "--save-hidden", "--partition", partition,
                          *options.format(distances=self.distances).split()],
                         ranks=ranks, timeout=120)
            self.assertEqual(result.code, 0, result)
            return (digest(folder / "cache.h5", TOKENS),
                    json.loads((folder / "report.json").read_text()))

    def prefill_all(self, jobs):
        """{job: prefill(*job)}, two at a time."""
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            return dict(zip(jobs, pool.map(lambda job: self.prefill(*job), jobs)))

    def check_traffic(self, report, ranks):
        planned = [rank["bytes_planned"] for rank in report["per_rank"]]
        self.assertEqual(len(planned), ranks)
        self.assertEqual(report["bytes_received"], planned)
        self.assertEqual(any(planned), ranks > 1)
        self.assertEqual(sum(rank["tokens"] for rank in report["per_rank"]), TOKENS)

    def test_same_bits(self):
        alone = {}
        for name, options in PATTERNS.items():
            with self.subTest(name):
                jobs = [(options, ranks, partition) for ranks in RANKS
                        for partition in ("contiguous", "zigzag") if ranks > 1 or partition == "zigzag"]
                results = self.prefill_all(jobs)
                alone[name], _ = results[jobs[0]]
                for (_, ranks, partition), (found, report) in results.items():
                    self.assertEqual(found, alone[name], f"{ranks} ranks, {partition}")
                    self.check_traffic(report, ranks)
        hidden = {cache["hidden_all"] for cache in alone.values()}
        self.assertEqual(len(hidden), len(alone), "two patterns gave the same hidden states")

    def test_full_layers_hold_four_half_shares(self):
        ranks = 8
        jobs = [(f"--attention {options}", ranks, "zigzag")
                for options in ("full", "sliding --window 1 --sink 0")]
        full, none = (report["per_rank"] for _, report in self.prefill_all(jobs).values())
        chunk = -(-BLOCKS // (2 * ranks))
        for r in range(ranks):
            self.assertEqual(none[r]["bytes_planned"], 0)
            held = full[r]["activation_bytes"] - none[r]["activation_bytes"]
            self.assertGreater(held, 0, f"rank {r}")
            self.assertLessEqual(held, SHARES_IN_FLIGHT * chunk * BLOCK_BYTES, f"rank {r}")


if __name__ == "__main__":
    unittest.main()
