"""128K tokens through a small real shape on two ranks, in bounded memory."""

import json
import pathlib
import sys
import tempfile
import unittest

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.checkpoint import Spec, run, write_checkpoint  # noqa: E402

TOKENS = 128 * 1024


class LongPrompt(unittest.TestCase):
    def test_128k(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        folder = pathlib.Path(scratch.name)
        spec = Spec(layers=3, hidden=128, heads=2, kv_heads=1, head_dim=64, feed_forward=384,
                    vocabulary=1000)
        model = write_checkpoint(folder / "model", spec)
        np.save(folder / "tokens.npy", np.random.default_rng(1).integers(0, 1000, TOKENS))
        cache, report = folder / "cache.h5", folder / "report.json"
        result = run(["prefill", "--model", model, "--tokens", folder / "tokens.npy", "--out", cache,
                      "--attention", "power", "--report", report, "--threads", 1], ranks=2,
                     timeout=300)
        self.assertEqual(result.code, 0, result)
        told = json.loads(report.read_text())
        self.assertEqual(told["tokens"], TOKENS)
        for rank, received in zip(told["per_rank"], told["bytes_received"]):
            self.assertEqual(received, rank["bytes_planned"])
            # Buffers as the report counts them, the weights, the prompt, and the libraries.
            limit = rank["activation_bytes"] + told["weights_bytes"] + 12 * TOKENS + 200e6
            self.assertLess(rank["peak_rss_bytes"], limit)
        self.assertGreater(told["tokens_per_s"], 0)
        print(f"{told['tokens_per_s']:.0f} tokens/s, {told['wall_s']:.1f} s; per rank at most "
              f"{max(r['peak_rss_bytes'] for r in told['per_rank']) / 1e6:.0f} MB")
        self.assertEqual(run(["verify", cache], ranks=2).code, 0)
        result = run(["decode", cache, "--model", model, "--max-new-tokens", 3])
        self.assertEqual(result.code, 0, result)
        self.assertEqual(len(result.stdout.split()), 3)


if __name__ == "__main__":
    unittest.main()
