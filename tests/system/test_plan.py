"""`powerprefill plan`: what it says is what a prefill takes."""

import json
import pathlib
import sys
import unittest

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.checkpoint import Spec, run  # noqa: E402
from support.model_case import ModelCase  # noqa: E402

MODEL = Spec(vocabulary=500, hidden=256, layers=2, heads=8, kv_heads=2, head_dim=64, feed_forward=512)
STRUCTURE = 64 << 10  # what HDF5 and alignment add to a file


class Plan(ModelCase):
    SPEC = MODEL

    def plan(self, tokens, *options):
        result = run(["plan", "--model", self.model, "--tokens", tokens, "--json", *options])
        self.assertEqual(result.code, 0, result)
        return json.loads(result.stdout)

    def prefill(self, tokens, ranks, *options):
        np.save(self.folder / "ids.npy", (np.arange(tokens) * 7 % 500).astype(np.int32))
        result = run(["prefill", "--model", self.model, "--tokens", self.folder / "ids.npy", "--out",
                      self.folder / "kv.h5", "--force", "--quiet", "--report", self.folder / "r.json",
                      *options], ranks=ranks, timeout=120)
        self.assertEqual(result.code, 0, result)
        return json.loads((self.folder / "r.json").read_text())

    def test_memory_file_and_traffic(self):
        for ranks, options in ((1, "--attention power"), (2, "--attention power"),
                               (4, "--attention full"), (4, "--attention power --save-hidden"),
                               (3, "--attention power --chunk-tokens 4096 --kv-dtype bf16"),
                               (3, "--attention power --compute bf16 --full-layers 0")):
            with self.subTest(ranks=ranks, options=options):
                words = ["--threads", 1, *options.split()]
                plan = self.plan(10000, "--ranks", ranks, *words)
                report = self.prefill(10000, ranks, *words)
                most = max(rank["activation_bytes"] for rank in report["per_rank"])
                # Of the past of a chunk the plan knows no more than that it is the prompt's.
                past = plan["past_bytes"] / most
                self.assertLess(plan["rank_bytes"] / most - 1, 0.1 + past, (plan, most))
                self.assertGreater(plan["rank_bytes"] / most - 1, -0.1, (plan, most))
                self.assertEqual(plan["chunks"], report["chunks"])
                self.assertLess(abs(plan["weights_bytes_per_node"] - report["weights_bytes"]), 4096)
                self.assertGreaterEqual(report["cache_bytes"], plan["cache_bytes"])
                self.assertLess(report["cache_bytes"] - plan["cache_bytes"], STRUCTURE)
                if report["chunks"] == 1:
                    self.assertEqual(plan["received_bytes"], max(report["bytes_received"]))

    def test_table_and_refusals(self):
        result = run(["plan", "--model", self.model, "--tokens", 131072, "--ranks", 16, "--nodes", 4])
        self.assertEqual(result.code, 0, result)
        self.assertIn("node_bytes", result.stdout)
        self.assertEqual(run(["plan", "--model", self.model, "--tokens", 0]).code, 2)
        self.assertEqual(run(["plan", "--model", self.model, "--tokens", 9, "--ranks", 2, "--nodes", 3]).code, 2)
        self.assertEqual(run(["plan", "--model", self.folder / "no", "--tokens", 9]).code, 3)


if __name__ == "__main__":
    unittest.main()
