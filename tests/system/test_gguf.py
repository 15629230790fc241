"""bench/gguf.py, which writes the models that llama.cpp is timed on."""

import pathlib
import struct
import sys
import tempfile
import unittest

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]
import gguf  # noqa: E402
from support.checkpoint import Spec, write_checkpoint  # noqa: E402

# Sizes are multiples of a block of q4_0.
MODEL = Spec(dtype="bf16", tied=True, hidden=64, heads=2, kv_heads=1, head_dim=32, feed_forward=96)


class Gguf(unittest.TestCase):
    def test_q4_0_is_within_a_step(self):
        values = np.random.default_rng(0).standard_normal(64 * gguf.BLOCK).astype(np.float32)
        values[:gguf.BLOCK] = 0
        back = gguf.dequantise_q4_0(gguf.quantise_q4_0(values)).reshape(-1, gguf.BLOCK)
        blocks = values.reshape(-1, gguf.BLOCK)
        step = np.abs(blocks).max(1, keepdims=True) / 8  # one step at the end that q 16 would have
        self.assertTrue((np.abs(back - blocks) <= step * (1 + 2**-9)).all())
        self.assertLess(np.sqrt(np.mean((back - blocks)**2)), 0.1)
        self.assertTrue((back[0] == 0).all())

    def test_sizes_and_bits(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            checkpoint = write_checkpoint(folder / "model", MODEL)
            for kind in gguf.FILE_TYPES:
                content = gguf.write_gguf(folder / "model.gguf", checkpoint, kind).read_bytes()
                magic, version, tensors, _ = struct.unpack_from("<4sIQQ", content)
                self.assertEqual((magic, version, tensors), (b"GGUF", 3, len(MODEL.shapes())))
                stored = 0
                for name, shape in MODEL.shapes().items():
                    kind_of = gguf.tensor_type(gguf.gguf_name(name), shape, kind)
                    size = gguf.bytes_of(shape, kind_of)
                    self.assertEqual(len(gguf.encoded(np.ones(shape), kind_of)), size)
                    stored += size + -size % gguf.ALIGNMENT
                last = gguf.encoded(MODEL.tensors()["model.norm.weight"], "f32")
                self.assertTrue(content.rstrip(b"\0").endswith(last.rstrip(b"\0")))
                self.assertLess(len(content) - stored, 8192)


if __name__ == "__main__":
    unittest.main()
