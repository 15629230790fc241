"""`powerprefill export`: safetensors with exactly what is committed."""

import json
import pathlib
import sys
import tempfile
import unittest

import h5py

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.cache import newest_record  # noqa: E402
from support.checkpoint import (SAFETENSORS_NAMES, Spec, read_raw_safetensors, run,  # noqa: E402
                                write_checkpoint)

TOKENS = 75
NEW = 5
MODEL = Spec(layers=2, heads=6, kv_heads=3)


def raw_rows(dataset, count):
    """The bytes of the first rows, as they lie in the file."""
    with open(dataset.file.filename, "rb") as file:
        file.seek(dataset.id.get_offset())
        return file.read(dataset[:count].size * dataset.id.get_type().get_size())


class Export(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        self.model = write_checkpoint(self.folder / "model", MODEL)
        (self.folder / "tokens.txt").write_text(" ".join(str(i % 64) for i in range(TOKENS)))

    def run_well(self, *arguments):
        result = run(arguments, timeout=60)
        self.assertEqual(result.code, 0, result)

    def test_contents(self):
        cache, out = self.folder / "kv.h5", self.folder / "kv.safetensors"
        for dtype in ("f32", "bf16", "f16"):
            with self.subTest(dtype):
                self.run_well("prefill", "--model", self.model, "--tokens", self.folder / "tokens.txt",
                              "--out", cache, "--force", "--block", 16, "--kv-dtype", dtype, "--quiet",
                              "--save-hidden", "--chunk-tokens", 32)
                self.run_well("decode", cache, "--model", self.model, "--append", "--quiet",
                              "--max-new-tokens", NEW)
                self.run_well("export", cache, "--out", out, "--force")
                self.check(cache, out, dtype)
        self.assertEqual([p.name for p in self.folder.iterdir() if p.name.startswith(".")], [])

    def check(self, cache, out, dtype):
        header, data = read_raw_safetensors(out)
        metadata = header.pop("__metadata__")
        self.assertEqual(json.loads(metadata["decoded_ranges"]), [[TOKENS, TOKENS + NEW]])
        count = TOKENS + NEW
        with h5py.File(cache) as file:
            _, found, slot, _ = newest_record(file)
            self.assertEqual(found, count)
            expected = {"tokens": ("I32", file["tokens"][:count].tobytes()),
                        "logits": ("F32", file["logits"][slot].tobytes()),
                        "hidden": ("F32", file["hidden"][slot].tobytes()),
                        "hidden_all": ("F32", file["hidden_all"][:count].tobytes())}
            for layer in range(MODEL.layers):
                for part in ("key", "value"):
                    rows = file[f"layers/{layer:04}/{part}"]
                    expected[f"layers.{layer}.{part}"] = (SAFETENSORS_NAMES[dtype],
                                                          raw_rows(rows, count))
            self.assertEqual(metadata["schedule"], file.attrs["schedule"].decode())
        self.assertEqual(set(header), set(expected))
        end = 0
        for name, tensor in header.items():
            begin, past_end = tensor["data_offsets"]
            self.assertEqual(begin, end)
            end = past_end
            self.assertEqual((tensor["dtype"], data[begin:end]), expected[name], name)
        self.assertEqual(header["layers.0.key"]["shape"], [count, MODEL.kv_heads, MODEL.head_dim])
        self.assertEqual(end, len(data))

    def test_refusals(self):
        cache, out = self.folder / "kv.h5", self.folder / "kv.safetensors"
        self.run_well("prefill", "--model", self.model, "--tokens", self.folder / "tokens.txt", "--out",
                      cache, "--block", 16, "--quiet")
        out.write_text("mine")
        self.assertEqual(run(["export", cache, "--out", out]).code, 2)
        self.assertEqual(out.read_text(), "mine")
        self.assertEqual(run(["export", cache, "--out", self.folder / "no" / "kv"]).code, 5)
        with h5py.File(cache) as file:
            offset = file["layers/0001/value"].id.get_offset()
        content = bytearray(cache.read_bytes())
        content[offset + 3] ^= 1
        cache.write_bytes(content)
        result = run(["export", cache, "--out", self.folder / "new"])
        self.assertEqual(result.code, 4, result)
        self.assertIn("layer 1 value block 0", result.stderr)
        self.assertFalse((self.folder / "new").exists())


if __name__ == "__main__":
    unittest.main()
