"""Cache files of other versions of the format, and files that somebody has added things to.

    POWERPREFILL=build/powerprefill /usr/bin/python3 tests/system/test_versions.py

Needs numpy and h5py, and xxhash: the Python module or the C library.
"""

import json
import shutil
import struct
import sys
import unittest
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.checkpoint import Spec, run  # noqa: E402
from support.model_case import ModelCase  # noqa: E402
from support.xxh3 import find_xxh3  # noqa: E402

BLOCK = 8
PROMPT = 45
RESERVE = 16
MODEL = Spec()
# In the order of the header hash.
HASHED = ("format version_major version_minor generation capacity block_tokens num_layers "
          "num_kv_heads head_dim hidden_size vocabulary dtype weights_fingerprint "
          "config_fingerprint tokenizer_fingerprint schedule rope compute numerics writer checksum "
          "saves_hidden").split()

xxh3 = find_xxh3()


def header_hash(file):
    text = b""
    for name in HASHED:
        value = file.attrs[name]
        value = value if isinstance(value, bytes) else str(int(value)).encode()
        text += name.encode() + b"=" + value + b"\n"
    return xxh3(text)


def newest_row(file):
    """The row of /commit with the newest record, and its words."""
    records = [struct.unpack("<8Q", row.tobytes()) for row in file["commit"][:, :64]]
    row = max(range(len(records)), key=lambda i: records[i][2])
    return row, list(records[row])


def set_version(path, major=None, minor=None, commits=True):
    """Rewrites the version, and with `commits` the newest record as a program of that version
    would have made it."""
    with h5py.File(path, "r+") as file:
        row, words = newest_row(file)
        if words[6] != header_hash(file):
            raise AssertionError("the header hash is not as documented")
        for name, value in (("version_major", major), ("version_minor", minor)):
            if value is not None:
                file.attrs.modify(name, np.int32(value))
        if commits:
            words[6] = header_hash(file)
            words[7] = xxh3(struct.pack("<7Q", *words[:7]))
            file["commit"][row, :64] = np.frombuffer(struct.pack("<8Q", *words), np.uint8)


class Versions(ModelCase):
    SPEC = MODEL

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tokens = cls.folder / "tokens.npy"
        random = np.random.default_rng(8)
        np.save(cls.tokens, random.integers(0, MODEL.vocabulary, PROMPT, np.int32))
        cls.cache = cls.folder / "cache.h5"
        result = run(cls.prefill(cls.cache))
        if result.code != 0:
            raise AssertionError(str(result))
        cls.expected = run(cls.decode(cls.cache, 6)).stdout.split()

    @classmethod
    def prefill(cls, path, *options):
        return ["prefill", "--model", cls.model, "--tokens", cls.tokens, "--out", path, "--block",
                BLOCK, "--attention", "power", "--window", 2, "--reserve", RESERVE, "--threads", 1,
                "--chunk-tokens", 16, "--quiet", *options]

    @classmethod
    def decode(cls, path, count, *options):
        return ["decode", path, "--model", cls.model, "--max-new-tokens", count, "--ids",
                "--threads", 1, "--quiet", *options]

    def copy(self):
        path = self.folder / f"{self.id().rsplit('.', 1)[-1]}.h5"
        shutil.copy(self.cache, path)
        return path

    def succeed(self, arguments, ranks=None):
        result = run(arguments, ranks)
        self.assertEqual(result.code, 0, result)
        return result.stdout

    def check_is_read(self, path):
        """By every command, on one rank and on several; and it can be written on."""
        for ranks in (None, 2):
            self.succeed(["verify", path], ranks)
            self.assertEqual(self.succeed(self.decode(path, 6), ranks).split(), self.expected)
        self.assertEqual(json.loads(self.succeed(["inspect", "--json", path]))["tokens"], PROMPT)
        self.succeed(self.prefill(path, "--resume"), 2)
        found = self.succeed(self.decode(path, 2, "--append")).split()
        found += self.succeed(self.decode(path, 4, "--append"), 2).split()
        self.assertEqual(found, self.expected)
        self.succeed(["verify", path], 2)

    @unittest.skipIf(xxh3 is None, "no xxhash")
    def test_newer_minor_version(self):
        path = self.copy()
        set_version(path, minor=7)
        self.check_is_read(path)
        with h5py.File(path, "r") as file:
            self.assertEqual(file.attrs["version_minor"], 7)
            self.assertEqual(newest_row(file)[1][6], header_hash(file))
        # A file that grows is made anew, by this version.
        self.succeed(self.decode(path, 2 * RESERVE, "--append"), 2)
        self.succeed(["verify", path])
        with h5py.File(path, "r") as file, h5py.File(self.cache, "r") as own:
            self.assertGreater(file.attrs["capacity"], own.attrs["capacity"])
            self.assertEqual(file.attrs["version_minor"], own.attrs["version_minor"])
            self.assertEqual(newest_row(file)[1][6], header_hash(file))

    @unittest.skipIf(xxh3 is None, "no xxhash")
    def test_minor_version_that_was_not_committed(self):
        path = self.copy()
        set_version(path, minor=7, commits=False)
        for command in (["verify", path], self.decode(path, 6)):
            result = run(command, 2)
            self.assertEqual(result.code, 4, result)
            self.assertIn("attributes are not those that were committed", result.stderr)

    @unittest.skipIf(xxh3 is None, "no xxhash")
    def test_newer_major_version(self):
        path = self.copy()
        set_version(path, major=3, minor=1)
        before = path.read_bytes()
        for command in (["verify", path], ["inspect", path], self.decode(path, 6),
                        self.decode(path, 6, "--append"), self.prefill(path, "--resume"),
                        self.prefill(self.folder / "new.h5", "--prefix", path)):
            for ranks in (None, 2):
                with self.subTest(command[0], ranks=ranks):
                    result = run(command, ranks)
                    self.assertEqual(result.code, 4, result)
                    self.assertEqual(result.stderr.count("powerprefill: error"), 1, result)
                    for words in ("newer version", "format is 3", "reads 1"):
                        self.assertIn(words, result.stderr)
        self.assertEqual(path.read_bytes(), before)
        self.assertFalse((self.folder / "new.h5").exists())

    def test_additions(self):
        """Attributes and datasets that later versions, or users, add."""
        path = self.copy()
        with h5py.File(path, "r+") as file:
            file.attrs["note"] = "of any length"
            file.attrs["numbers"] = np.arange(100)
            file["tokens"].attrs["language"] = "none"
            file["scores"] = np.linspace(0, 1, 5000)
            file.create_dataset("packed", data=np.eye(64), chunks=(8, 8), compression="gzip")
            file["layers/0000/extra"] = np.arange(12)
            file["more/deep/empty"] = h5py.Empty("f4")
            file["alias"] = h5py.SoftLink("/layers/0001/key")
        self.check_is_read(path)
        with h5py.File(path, "r") as file:
            self.assertEqual(file.attrs["note"], "of any length")
            np.testing.assert_array_equal(file["scores"][:], np.linspace(0, 1, 5000))


if __name__ == "__main__":
    unittest.main()
