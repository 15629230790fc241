"""Files that are no caches, no token files, damaged, or made to harm: a clean code, and soon.

    POWERPREFILL=build/powerprefill /usr/bin/python3 tests/system/test_hostile_files.py [-v] [NAME ...]

Needs numpy, h5py and XXH3.
"""

import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import checkpoint as ck  # noqa: E402
from xxh3 import find_xxh3  # noqa: E402

XXH3 = find_xxh3()
SOON = 20  # seconds
HEADER = ("format version_major version_minor generation capacity block_tokens num_layers num_kv_heads head_dim "
          "hidden_size vocabulary dtype weights_fingerprint config_fingerprint tokenizer_fingerprint schedule rope "
          "compute numerics writer checksum saves_hidden").split()

folder = None
model = None
cache = None


def setUpModule():
    global folder, model, cache
    holder = tempfile.TemporaryDirectory(prefix="powerprefill-hostile-")
    unittest.addModuleCleanup(holder.cleanup)
    folder = Path(holder.name)
    model = ck.write_checkpoint(folder / "model")
    (folder / "ids").write_text(" ".join(map(str, range(20))))
    cache = folder / "cache.h5"
    result = ck.run(["prefill", "--model", model, "--threads", 1, "--block", 8, "--reserve", 8, "--quiet", "--tokens",
                     folder / "ids", "--kv-dtype", "bf16", "--out", cache])
    if result.code != 0:
        raise RuntimeError(result)


def repack(source, target, **options):
    """What h5repack does: the same content in another version of HDF5's format."""
    with h5py.File(source) as old, h5py.File(target, "w", **options) as new:
        old.copy("bfloat16", new)
        for name in old:
            if name != "bfloat16":
                old.copy(name, new)
        for name in old.attrs:
            given = h5py.h5a.open(old.id, name.encode())
            value = np.empty((), given.dtype)
            given.read(value)
            h5py.h5a.create(new.id, name.encode(), given.get_type(), given.get_space()).write(value)
    return target


def forge(target, **attributes):
    """A cache with these attributes, whose commit agrees with them."""
    shutil.copy(cache, target)
    with h5py.File(target, "r+") as file:
        for name, value in attributes.items():
            del file.attrs[name]
            if isinstance(value, bytes):
                kind = h5py.h5t.C_S1.copy()
                kind.set_size(len(value))
                kind.set_strpad(h5py.h5t.STR_NULLPAD)
                made = h5py.h5a.create(file.id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))
                made.write(np.array(value, f"S{len(value)}"))
            else:
                file.attrs[name] = value
        text = b""
        for name in HEADER:
            value = file.attrs[name]
            text += name.encode() + b"=" + (bytes(value) if isinstance(value, bytes) else str(value).encode()) + b"\n"
        rows = file["commit"][:]
        words = list(struct.unpack("<8Q", rows[1, :64].tobytes()))
        words[6] = XXH3(text)
        words[7] = XXH3(struct.pack("<7Q", *words[:7]))
        rows[1, :64] = np.frombuffer(struct.pack("<8Q", *words), np.uint8)
        file["commit"][:] = rows
    return target


def run(*arguments):
    done = subprocess.run([str(ck.binary()), *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, timeout=SOON)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def mask_of(path):
    """A command that reads a file of token ids, and needs nothing else."""
    return ["pattern", "--blocks", 4, "--attention", f"mask:{path}"]


def prefill(path, out):
    return ["prefill", "--model", model, "--threads", 1, "--tokens", path, "--out", out, "--quiet"]


class Case(unittest.TestCase):
    def setUp(self):
        self.here = Path(tempfile.mkdtemp(dir=folder))

    def refused(self, code, words, *arguments):
        found, _, message = run(*arguments)
        self.assertEqual(found, code, message)
        self.assertEqual(message.count("powerprefill: error"), 1, message)
        self.assertTrue(message.isprintable() or message.replace("\n", "").isprintable(), message)
        for word in words:
            self.assertIn(str(word), message)


class NoFiles(Case):
    def test_what_is_no_cache(self):
        fifo, empty, link = self.here / "fifo", self.here / "empty", self.here / "link"
        os.mkfifo(fifo)
        empty.touch()
        link.symlink_to(link)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.here / "socket"))
        self.addCleanup(listener.close)
        for path, codes in ((fifo, (4,)), (empty, (4,)), (self.here, (4,)), ("/dev/null", (4,)), ("/dev/zero", (4,)),
                            (self.here / "socket", (4,)), (self.here / "none", (3,)), (link, (3,)), ("", (3,))):
            for command in (["inspect", path], ["verify", path], ["export", path, "--out", self.here / "x"],
                            ["decode", path, "--model", model]):
                with self.subTest(command=command[0], path=str(path)):
                    code, _, message = run(*command)
                    self.assertIn(code, codes, message)
        self.assertFalse((self.here / "x").exists())

    def test_what_is_no_token_file(self):
        empty = self.here / "empty"
        empty.touch()
        for path in (self.here, self.here / "none", "/dev/zero", "/proc/self/mem"):
            code, _, message = run(*mask_of(path))
            self.assertIn(code, (3, 5), message)
        for path in (empty, "/dev/null"):  # no distances at all
            self.refused(2, ["ascend"], *mask_of(path))
            self.refused(3, ["empty"], *prefill(path, self.here / "kv.h5"))


class Links(Case):
    """Nothing of an HDF5 file leads out of it: here, to a pipe that would never be read."""

    def traps(self, file, name):
        """(what, how to make it) for each kind of trap."""
        fifo = self.here / "fifo"
        layout = h5py.VirtualLayout(shape=(4,), dtype="i4")
        layout[:] = h5py.VirtualSource(str(fifo), "tokens", shape=(4,))

        def ring():
            file[name] = h5py.SoftLink("/ring")
            file["ring"] = h5py.SoftLink(f"/{name}")

        def through():
            file["out"] = h5py.ExternalLink(str(fifo), "/")
            file[name] = h5py.SoftLink(f"/out/{name}")

        def outside():
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_external(str(fifo).encode(), 0, 16)
            h5py.h5d.create(file.id, name.encode(), h5py.h5t.STD_I32LE, h5py.h5s.create_simple((4,)), properties)

        return {"external link": lambda: file.__setitem__(name, h5py.ExternalLink(str(fifo), "/tokens")), "ring": ring,
                "through": through, "external storage": outside, "virtual": lambda: file.create_virtual_dataset(name, layout)}

    def test_they_are_not_followed(self):
        os.mkfifo(self.here / "fifo")
        kinds = 0
        for options in ({}, {"libver": "latest"}):
            with h5py.File(self.here / "none", "w") as file:
                names = list(self.traps(file, "tokens"))
            for what in names:
                path = self.here / "trap.h5"
                try:
                    with h5py.File(path, "w", **options) as file:
                        self.traps(file, "tokens")[what]()
                except (OSError, ValueError):  # virtual datasets need the later format
                    continue
                kinds += 1
                with self.subTest(what=what, **options):
                    self.refused(3, [path], *mask_of(path))
                copy = repack(cache, self.here / "cache.h5", **options)
                with h5py.File(copy, "r+", **options) as file:
                    del file["tokens"]
                    self.traps(file, "tokens")[what]()
                with self.subTest(what=what, cache=True, **options):
                    for command in ("inspect", "verify"):
                        self.refused(4, [copy], command, copy)
        self.assertGreaterEqual(kinds, 9)


class Versions(Case):
    def test_a_repacked_cache_is_a_cache(self):
        ids = run("decode", cache, "--model", model, "--ids", "--threads", 1, "--max-new-tokens", 5, "--quiet")
        for name, options, superblock in (("first", {}, 0), ("1.10", {"libver": "latest"}, 3)):
            copy = repack(cache, self.here / f"{name}.h5", **options)
            self.assertEqual(copy.read_bytes()[8], superblock)
            self.assertEqual(run("verify", copy)[0], 0)
            self.assertEqual(run("inspect", copy)[1].splitlines()[:3], run("inspect", cache)[1].splitlines()[:3])
            self.assertEqual(run("decode", copy, "--model", model, "--ids", "--threads", 1, "--max-new-tokens", 5, "--quiet"), ids)
            self.assertEqual(run("decode", copy, "--model", model, "--ids", "--threads", 1, "--append")[0], 0)
            self.assertEqual(run("verify", copy)[0], 0)


@unittest.skipIf(XXH3 is None, "no XXH3 to forge with")
class Forged(Case):
    """Attributes that nobody wrote, with a commit that agrees."""

    def test_an_unchanged_one_is_taken(self):
        self.assertEqual(run("verify", forge(self.here / "kv.h5", compute=b"f32"))[0], 0)

    def test_texts_that_are_none(self):
        for name in ("schedule", "rope", "compute", "numerics", "writer", "weights_fingerprint", "tokenizer_fingerprint"):
            for text in (b"\xff\xfe\x80", b"a\x1b[2Jb", b"two\nlines", b"\xc3"):
                path = forge(self.here / "kv.h5", **{name: text})
                for command in (["inspect", path], ["inspect", path, "--json"]):
                    self.refused(4, [path, name], *command)
        path = forge(self.here / "kv.h5", writer=b"\xff")
        for command in (["verify", path], ["export", path, "--out", self.here / "x"], ["decode", path, "--model", model]):
            self.refused(4, [path, "writer"], *command)

    def test_json_that_is_none(self):
        for text in (b"x", b"[" * 60000, b'{"a":' * 10000, b"1e99999", b'{"block":-1,"layers":5}', b"null"):
            for name in ("schedule", "rope"):
                path = forge(self.here / "kv.h5", **{name: text})
                for command in (["inspect", path], ["inspect", path, "--json"]):
                    self.assertEqual(run(*command)[0], 0, (name, text[:20]))
                json.loads(run("inspect", path, "--json")[1])
                self.refused(4, [], "decode", path, "--model", model)


def change(data, draw):
    """One of the mutations that find most."""
    data = bytearray(data)
    kind = draw.randrange(5)
    for _ in range(draw.choice((1, 1, 2, 5, 20))):
        at = draw.randrange(len(data))
        if kind == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            width = draw.choice((2, 4, 8))
            value = draw.choice((0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), len(data), draw.randrange(2**15)))
            data[at:at + width] = value.to_bytes(width, "little")
        elif kind == 3:
            to = draw.randrange(len(data))
            data[at:at + 16] = data[to:to + 16]
        else:
            del data[at:at + draw.choice((1, 8, 100, len(data)))]
            data = data or bytearray(1)
    return bytes(data)


class Fuzz(Case):
    """Always the same trials. Where structure is, most of the changes are."""

    def try_all(self, trials, allowed):
        with ThreadPoolExecutor(3) as pool:
            results = list(pool.map(lambda trial: run(*trial[1]), trials))
        for (what, _), (code, _, message) in zip(trials, results):
            self.assertIn(code, allowed, f"{what}: {message}")
        return [code for code, _, _ in results]

    def test_caches(self):
        draw, trials = random.Random(1), []
        for name, options in (("own", None), ("first", {}), ("latest", {"libver": "latest"})):
            source = cache if options is None else repack(cache, self.here / name, **options)
            data = source.read_bytes()
            head = data.find(b"PPKVCMT1") if name == "own" else len(data)
            for n in range(14):
                # HDF5's structure is at the beginning, and at the end.
                at = draw.randrange(max(1, head // 4096)) * 4096
                part = change(data[at:at + 4096], draw) if n % 3 else change(data[:2048], draw)
                path = self.here / f"{name}-{n}"
                path.write_bytes(data[:at] + part + data[at + 4096:] if n % 3 else part + data[2048:])
                trials.append((path.name, [("inspect", "verify")[n % 2], path]))
        codes = self.try_all(trials, (0, 4))
        self.assertGreater(codes.count(4), 10)

    def test_token_files(self):
        draw, trials = random.Random(2), []
        sources = {"text": b"0 1 2 3 12 400 70000", "npy": None}
        np.save(self.here / "ids.npy", np.arange(30))
        sources["npy"] = (self.here / "ids.npy").read_bytes()
        for name, options in (("first", {}), ("latest", {"libver": "latest"}), ("tracked", {"track_order": True}), ("paged", {"fs_strategy": "page"})):
            with h5py.File(self.here / name, "w", **options) as file:
                file["tokens"] = np.arange(20)
                file["tokens"].attrs["remark"] = "x"
                file["group/other"] = 5
            sources[name] = (self.here / name).read_bytes()
        for name, data in sources.items():
            for n in range(40 if name in ("first", "tracked") else 15):
                path = self.here / f"{name}-{n}"
                head = data[:2400]
                path.write_bytes(change(head, draw) + data[len(head):])
                trials.append((path.name, mask_of(path)))
        codes = self.try_all(trials, (0, 2, 3, 4))
        self.assertGreater(codes.count(0), 10)
        self.assertGreater(codes.count(3), 30)

    def test_batch_lines(self):
        draw, trials = random.Random(3), []
        line = b'{"id": "a-1", "tokens": [1, 2, 3, 40]}\n{"id": "b", "prompt": "text \\u00e4"}\n'
        for n in range(12):
            path = self.here / f"{n}.jsonl"
            path.write_bytes(change(line, draw))
            trials.append((path.name, ["score", "--model", model, "--threads", 1, "--quiet", "--batch", path]))
        self.try_all(trials, (0, 3))


if __name__ == "__main__":
    unittest.main()
