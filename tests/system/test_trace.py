"""`prefill --trace`: a row for each thread of each rank; writing overlaps computing."""

import json
import pathlib
import sys
import unittest

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.checkpoint import Spec, run  # noqa: E402
from support.model_case import ModelCase  # noqa: E402

RANKS = THREADS = 2
TOKENS = 6000
MODEL = Spec(layers=4, hidden=128, heads=4, kv_heads=4, head_dim=32, feed_forward=256)
COMPUTE = {"norm", "qkv", "rope", "attention", "attention_out", "mlp"}


class TraceTest(ModelCase):
    SPEC = MODEL

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder, model = cls.folder, cls.model
        np.save(folder / "ids.npy", np.random.default_rng(3).integers(0, 64, TOKENS).astype(np.int32))
        result = run(["prefill", "--model", model, "--tokens", folder / "ids.npy", "--out", folder / "kv.h5",
                      "--attention", "power", "--chunk-tokens", 3072, "--threads", THREADS, "--quiet",
                      "--trace", folder / "trace.json", "--report", folder / "report.json"],
                     ranks=RANKS, timeout=120)
        assert result.code == 0, result
        cls.events = json.loads((folder / "trace.json").read_text())
        cls.report = json.loads((folder / "report.json").read_text())
        cls.rows = {(e["pid"], e["tid"]): e["args"]["name"] for e in cls.events
                    if e["name"] == "thread_name"}

    def of(self, rank, row):
        return [e for e in self.events if e["ph"] == "X" and e["pid"] == rank
                and self.rows[e["pid"], e["tid"]] == row]

    def test_rows(self):
        for rank in range(RANKS):
            names = sorted(name for (pid, _), name in self.rows.items() if pid == rank)
            self.assertEqual(names, ["cache writer", "main", "past reader", "thread 1"])
            for name in names:
                self.assertTrue(self.of(rank, name), (rank, name))

    def test_main_rows_are_the_report(self):
        for rank in range(RANKS):
            zones = self.report["per_rank"][rank]["zones"]
            for zone in COMPUTE:
                seconds = sum(e["dur"] for e in self.of(rank, "main") if e["name"] == zone) / 1e6
                self.assertAlmostEqual(seconds, zones[zone], delta=0.001 + 0.01 * zones[zone])

    def test_no_row_overlaps_itself(self):
        for (rank, _), name in self.rows.items():
            events = sorted(self.of(rank, name), key=lambda e: e["ts"])
            for before, after in zip(events, events[1:]):
                self.assertLessEqual(before["ts"] + before["dur"], after["ts"] + 1)

    def test_writing_overlaps_computing(self):
        for rank in range(RANKS):
            computing = [e for e in self.of(rank, "main") if e["name"] in COMPUTE]
            overlapped = sum(
                any(c["ts"] < w["ts"] + w["dur"] and w["ts"] < c["ts"] + c["dur"] for c in computing)
                for w in self.of(rank, "cache writer"))
            self.assertGreater(overlapped, 0)


if __name__ == "__main__":
    unittest.main()
