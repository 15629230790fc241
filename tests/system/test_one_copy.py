"""One compute-ready copy of the weights per node, however many ranks; in memory or in a file."""

import json
import pathlib
import sys
import tempfile
import unittest

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.checkpoint import Spec, run  # noqa: E402


def write_large_checkpoint(folder, spec):
    """Random weights like write_checkpoint()'s, but the same million numbers again and again: fast."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(spec.config()))
    numbers = np.random.default_rng(1).standard_normal(1 << 20, np.float32) * 0.02
    pattern = (numbers.view(np.uint32) >> 16).astype("<u2")  # bf16, cut off
    header, size = {}, 0
    for name, shape in spec.shapes().items():
        count = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [size, size + count]}
        size += count
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in spec.shapes().items():
            file.write(np.resize(pattern, int(np.prod(shape))).tobytes())
    return folder


class OneCopy(unittest.TestCase):
    def test_proportional_set_size(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        folder = pathlib.Path(scratch.name)
        spec = Spec(layers=24, hidden=1024, heads=16, kv_heads=4, head_dim=64, feed_forward=4096,
                    vocabulary=1000, tied=True, dtype="bf16")
        model = write_large_checkpoint(folder / "model", spec)
        self.assertGreater((model / "model.safetensors").stat().st_size, 300e6)
        (folder / "tokens").write_text(" ".join(str(i % 1000) for i in range(512)))
        for store in ("memory", folder):
            with self.subTest(store=str(store)):
                report = folder / "report.json"
                result = run(["prefill", "--model", model, "--tokens", folder / "tokens", "--out",
                              folder / "cache.h5", "--force", "--quiet", "--threads", 1, "--report", report,
                              "--weights-store", store], ranks=4, timeout=180)
                self.assertEqual(result.code, 0, result)
                told = json.loads(report.read_text())
                found = sum(rank["pss_bytes"] for rank in told["per_rank"])
                buffers = sum(rank["activation_bytes"] for rank in told["per_rank"])
                expected = told["weights_bytes"] + buffers
                print(f"{store}: {found / 1e6:.0f} MB resident, {expected / 1e6:.0f} MB by the formula")
                self.assertLessEqual(found, 1.1 * expected)
                self.assertEqual([p.name for p in folder.glob("powerprefill-weights*")], [])


if __name__ == "__main__":
    unittest.main()
