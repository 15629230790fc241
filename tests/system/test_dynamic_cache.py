"""launch/dynamic_cache.py reads what was committed, notices damage, and goes on in transformers.

    POWERPREFILL=build/powerprefill /usr/bin/python3 tests/system/test_dynamic_cache.py

Needs numpy and h5py; what needs torch and transformers, or xxhash, is left out without them.
"""

import importlib.util
import subprocess
import sys
import types
import unittest
import warnings
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from support.checkpoint import Spec, round_to_bf16, run  # noqa: E402
from support.model_case import ModelCase  # noqa: E402
from support.xxh3 import find_xxh3  # noqa: E402

EXAMPLE = ROOT / "launch" / "dynamic_cache.py"
BLOCK = 16
PROMPT = 75
MODEL = Spec(layers=3)
HAS_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))

xxh3 = find_xxh3()


def load_example(checks):
    """The example as a module, with or without a module xxhash."""
    spec = importlib.util.spec_from_file_location("dynamic_cache", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.xxhash = types.SimpleNamespace(xxh3_64_intdigest=xxh3) if checks else None
    return module


class DynamicCache(ModelCase):
    SPEC = MODEL

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.ids = np.random.default_rng(6).integers(0, MODEL.vocabulary, PROMPT, np.int32)

    def succeed(self, *arguments):
        result = run(arguments)
        self.assertEqual(result.code, 0, result)
        return result.stdout

    def prefill(self, name, *options, model=None, ids=None):
        tokens, out = self.folder / "tokens.npy", self.folder / f"{name}.h5"
        np.save(tokens, self.ids if ids is None else ids)
        self.succeed("prefill", "--model", model or self.model, "--tokens", tokens, "--out", out,
                     "--block", BLOCK, "--threads", 1, "--quiet", "--force", *options)
        return out

    def decode(self, path, count, *options, model=None):
        out = self.succeed("decode", path, "--model", model or self.model, "--max-new-tokens",
                           count, "--ids", "--threads", 1, "--quiet", *options)
        return [int(word) for word in out.split()]

    def test_what_is_read(self):
        for dtype in ("f32", "bf16", "f16"):
            for checks in (False, True):
                with self.subTest(dtype, checks=checks):
                    if checks and xxh3 is None:
                        self.skipTest("no xxhash")
                    path = self.prefill(dtype, "--kv-dtype", dtype, "--chunk-tokens", 16,
                                        "--attention", "full",
                                        *(["--save-hidden"] if dtype == "bf16" else []))
                    more = self.decode(path, 5, "--append")
                    state = load_example(checks).read_cache(path)
                    self.assertEqual(state["dtype"], dtype)
                    self.assertEqual(state["tokens"].tolist(), self.ids.tolist() + more)
                    self.assertEqual(int(state["logits"].argmax()), self.decode(path, 1)[0])
                    self.assertEqual({layer["pattern"] for layer in state["schedule"]["layers"]},
                                     {"full"})
                    self.check_layers(path, state["layers"], dtype, len(state["tokens"]))

    def check_layers(self, path, layers, dtype, count):
        kind = {"f32": np.float32, "bf16": np.uint16, "f16": np.float16}[dtype]
        self.assertEqual(len(layers), MODEL.layers)
        with h5py.File(path, "r") as file:
            for number, layer in enumerate(layers):
                for part, found in zip(("key", "value"), layer):
                    expected = file[f"layers/{number:04d}/{part}"][:count]
                    self.assertEqual((found.shape, found.dtype), (expected.shape, kind))
                    if dtype == "bf16":
                        found = (found.astype(np.uint32) << 16).view(np.float32)
                        np.testing.assert_array_equal(found, round_to_bf16(found))
                    np.testing.assert_array_equal(found, expected)

    @unittest.skipIf(xxh3 is None, "no xxhash")
    def test_damage(self):
        path = self.prefill("damage", "--kv-dtype", "bf16", "--attention", "full", "--save-hidden")
        good = path.read_bytes()
        example = load_example(True)
        with h5py.File(path, "r") as file:
            def place(name, *index):
                data = file[name]
                row = np.ravel_multi_index(index + (0,) * (data.ndim - len(index)), data.shape)
                return data.id.get_offset() + int(row) * data.id.get_type().get_size()
            places = {
                "layer 2 value block 4": place("layers/0002/value", PROMPT - 1),
                "layer 0 key block 0": place("layers/0000/key", 0),
                "newest commit": place("commit", 1, 24),
                "tables": place("tokens", 3)}
            for name in ("checksums", "hidden_checksums", "logits", "hidden"):
                places[f"tables: {name}"] = place(name, 1)
            places["tables: decoded"] = place("decoded", 1)
            harmless = place("layers/0001/key", PROMPT)
        for name, offset in places.items():
            with self.subTest(name):
                path.write_bytes(good[:offset] + bytes([good[offset] ^ 1]) + good[offset + 1:])
                with self.assertRaisesRegex(ValueError, name.split(":")[0]):
                    example.read_cache(path)
        path.write_bytes(good[:harmless] + bytes([good[harmless] ^ 1]) + good[harmless + 1:])
        example.read_cache(path)

    def test_refuses_what_it_cannot_read(self):
        example = load_example(xxh3 is not None)
        path = self.prefill("other", "--attention", "full")
        with h5py.File(path, "r+") as file:
            file.attrs.modify("version_major", np.int32(2))
        with self.assertRaisesRegex(ValueError, "newer version"):
            example.read_cache(path)
        with h5py.File(path, "r+") as file:
            file.attrs.modify("version_major", np.int32(1))
            file["commit"][...] = 0
        with self.assertRaisesRegex(ValueError, "no commit"):
            example.read_cache(path)

    @unittest.skipUnless(HAS_TORCH, "no torch and transformers")
    def test_generation(self):
        """The ids that transformers made from the prompt, and those of decode."""
        for case in ("llama", "qwen3"):
            with self.subTest(case):
                model = ROOT / "tests/reference/checkpoints" / case
                with np.load(ROOT / f"tests/reference/recorded/{case}.npz") as recorded:
                    ids, greedy = recorded["full.205.tokens"], recorded["full.205.greedy"]
                path = self.prefill(case, "--attention", "full", model=model, ids=ids)
                command = [sys.executable, EXAMPLE, path, model, str(len(greedy))]
                result = subprocess.run(command, capture_output=True, text=True, timeout=300)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual(result.stdout.split(), [str(token) for token in greedy])
                self.assertEqual(self.decode(path, len(greedy), model=model), greedy.tolist())

    @unittest.skipUnless(HAS_TORCH, "no torch and transformers")
    def test_half_keys_and_sparse_schedules(self):
        import torch
        example = load_example(xxh3 is not None)
        kinds = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
        for dtype, kind in kinds.items():
            with self.subTest(dtype):
                path = self.prefill(dtype, "--kv-dtype", dtype, "--attention", "power",
                                    "--window", 2)
                state = example.read_cache(path)
                key = example.dynamic_cache(state["layers"]).layers[1].keys
                self.assertEqual((key.dtype, tuple(key.shape)),
                                 (kind, (1, MODEL.kv_heads, PROMPT, MODEL.head_dim)))
                with h5py.File(path, "r") as file:
                    expected = file["layers/0001/key"][:PROMPT].astype(np.float32)
                np.testing.assert_array_equal(key[0].transpose(0, 1).float().numpy(), expected)
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    self.assertEqual(len(list(example.generate(state, self.model, 4))), 4)
                self.assertTrue(any("sparse schedule" in str(w.message) for w in caught))


if __name__ == "__main__":
    unittest.main()
