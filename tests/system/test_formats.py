"""What the binary reads and writes: token files, caches, reports, tokens.

    POWERPREFILL=build/powerprefill /usr/bin/python3 tests/system/test_formats.py [-v] [NAME ...]

Needs numpy and h5py.
"""

import json
import os
import shutil
import struct
import sys
import tempfile
import unittest
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import checkpoint as ck  # noqa: E402

BLOCK = 8
LENGTH = 77  # tokens of the prompt: ten blocks, the last one not full
SPEC = ck.Spec()
REPORT_KEYS = {
    "tokens", "resumed_from", "ranks", "threads", "attention", "compute", "numerics", "wall_s",
    "tokens_per_s", "zones", "bytes_received", "exchange_wait_s", "cache_bytes", "cache_write_s",
    "peak_rss_bytes", "gemm_gflops", "attention_gflops"}

folder = None  # of all files of this program
model = None
tokens = None
cache = None  # made by three ranks, with the hidden states


def setUpModule():
    global folder, model, tokens, cache
    holder = tempfile.TemporaryDirectory(prefix="powerprefill-formats-")
    unittest.addModuleCleanup(holder.cleanup)
    folder = Path(holder.name)
    model = ck.write_checkpoint(folder / "model", SPEC)
    tokens = folder / "tokens.txt"
    tokens.write_text(" ".join(map(str, prompt())) + "\n")
    cache = folder / "cache.h5"
    prefill(cache, "--save-hidden", ranks=3)


def prompt():
    return np.random.default_rng(7).integers(0, SPEC.vocabulary, LENGTH).astype(np.int32)


def run(*arguments, ranks=None):
    """Returns stdout; fails unless the run succeeds and leaves no process behind."""
    result = ck.run(arguments, ranks)
    if result.code != 0 or result.left:
        raise AssertionError(str(result))
    return result.stdout


def prefill(out, *options, ranks=None, model=None, tokens=None):
    here = globals()
    run("prefill", "--model", model or here["model"], "--tokens", tokens or here["tokens"],
        "--out", out, "--threads", 1, "--attention", "power", "--window", 2, "--block", BLOCK,
        "--reserve", 16, "--compute", "f32", "--quiet", *options, ranks=ranks)
    return Contents(out)


def decode(path, *options, ranks=None, model=None, count=8):
    """The generated ids."""
    out = run("decode", path, "--model", model or globals()["model"], "--threads", 1,
              "--max-new-tokens", count, "--ids", "--quiet", *options, ranks=ranks)
    if out.count("\n") != 1:
        raise AssertionError(f"decode printed {out!r}")
    return [int(word) for word in out.split()]


class Contents:
    """The committed part of a cache file, read with h5py alone."""

    def __init__(self, path):
        with h5py.File(path, "r") as file:
            self.attributes = {name: value.decode() if isinstance(value, bytes) else value
                               for name, value in file.attrs.items()}
            commits = [struct.unpack("<8Q", row.tobytes()) for row in file["commit"][:, :64]]
            newest = max(commits, key=lambda words: words[2])
            self.tokens, slots = newest[3], newest[4]
            n, blocks = self.tokens, -(-self.tokens // BLOCK)
            self.arrays = {"tokens": file["tokens"][:n], "decoded": file["decoded"][:n],
                           "logits": file["logits"][slots & 1], "hidden": file["hidden"][slots & 1],
                           "checksums": file["checksums"][slots >> 1, ..., :blocks]}
            for layer in file["layers"]:
                for part in ("key", "value"):
                    self.arrays[f"{layer}/{part}"] = file[f"layers/{layer}/{part}"][:n]
            if "hidden_all" in file:
                self.arrays["hidden_all"] = file["hidden_all"][:n]

    def __getitem__(self, name):
        return self.arrays[name]


class Formats(unittest.TestCase):
    def setUp(self):
        self.folder = folder / self.id().rsplit(".", 1)[-1]
        self.folder.mkdir()
        self.addCleanup(shutil.rmtree, self.folder)
        self.addCleanup(self.check_rest)

    def check_rest(self):
        self.assertEqual([path for path in folder.rglob("*") if path.name.endswith(".tmp")], [])

    def assert_same(self, a, b, attributes=True):
        """The same numbers, bit for bit, in two caches; of `hidden_all`, if both have it."""
        self.assertEqual(a.tokens, b.tokens)
        self.assertEqual(set(a.arrays) ^ set(b.arrays) | {"hidden_all"}, {"hidden_all"})
        for name in set(a.arrays) & set(b.arrays):
            self.assertEqual(a[name].dtype, b[name].dtype, name)
            self.assertEqual(a[name].tobytes(), b[name].tobytes(), name)
        if attributes:
            own = {"generation", "saves_hidden"}
            self.assertEqual({k: v for k, v in a.attributes.items() if k not in own},
                             {k: v for k, v in b.attributes.items() if k not in own})


class TokenFiles(Formats):
    def check_file(self, write):
        path = self.folder / "tokens"
        write(path, prompt())
        self.assert_same(prefill(self.folder / "kv.h5", tokens=path, ranks=2), Contents(cache))

    def test_text(self):
        """Any white space between ids, and around them."""
        def write(path, ids):
            gaps = [" ", "\n", "\t", "\r\n", "   \n \n"]
            path.write_bytes(("\n " + "".join(f"{id}{gaps[i % len(gaps)]}"
                                              for i, id in enumerate(ids))).encode())
        self.check_file(write)
        with self.subTest("no newline at the end"):
            (self.folder / "kv.h5").unlink()
            self.check_file(lambda path, ids: path.write_text(",".join(map(str, ids))
                                                              .replace(",", " ")))

    def test_npy(self):
        for dtype, version in (("<i4", (1, 0)), ("<i8", (1, 0)), ("<i4", (2, 0))):
            def write(path, ids):
                with open(path, "wb") as file:
                    np.lib.format.write_array(file, ids.astype(dtype), version)
            with self.subTest(dtype=dtype, version=version):
                self.check_file(write)
            (self.folder / "kv.h5").unlink()

    def test_hdf5(self):
        for dtype in ("<i4", "<i8"):
            def write(path, ids):
                with h5py.File(path, "w") as file:
                    file["other"] = np.zeros(3)
                    file["tokens"] = ids.astype(dtype)
            with self.subTest(dtype=dtype):
                self.check_file(write)
            (self.folder / "kv.h5").unlink()


class Checkpoints(Formats):
    def test_shards(self):
        sharded = ck.write_checkpoint(self.folder / "sharded", ck.Spec(shards=3))
        made = prefill(self.folder / "kv.h5", model=sharded, ranks=2)
        self.assert_same(made, Contents(cache))

    def test_dtypes(self):
        """The weights are numbers that all dtypes hold."""
        for dtype in ("bf16", "f16"):
            with self.subTest(dtype=dtype):
                stored = ck.write_checkpoint(self.folder / dtype, ck.Spec(dtype=dtype))
                made = prefill(self.folder / f"{dtype}.h5", model=stored)
                self.assert_same(made, Contents(cache), attributes=False)

    def test_families(self):
        for family in ("llama", "mistral", "qwen3"):
            with self.subTest(family=family):
                spec = ck.Spec(family=family, tied=family == "qwen3")
                other = ck.write_checkpoint(self.folder / family, spec)
                made = prefill(self.folder / f"{family}.h5", "--save-hidden", model=other)
                head = spec.tensors()["model.embed_tokens.weight" if spec.tied
                                      else "lm_head.weight"]
                np.testing.assert_allclose(made["logits"], head @ made["hidden"], rtol=0,
                                           atol=1e-4)


class Json(Formats):
    def test_version(self):
        for ranks in (None, 2):
            lines = run("version", ranks=ranks).splitlines()
            self.assertEqual([line.split()[0] for line in lines],
                             ["powerprefill", "cache", "numerics"])

    def test_doctor(self):
        for ranks in (None, 2):
            with self.subTest(ranks=ranks):
                facts = json.loads(run("doctor", "--json", ranks=ranks))
                self.assertEqual(facts["ranks"], ranks or 1)
                self.assertGreater(facts["sgemm_gflops_per_thread"], 0)
                self.assertIsInstance(facts["advice"], list)

    def test_inspect(self):
        for ranks in (None, 2):
            with self.subTest(ranks=ranks):
                facts = json.loads(run("inspect", cache, "--json", ranks=ranks))
                expected = {"tokens": LENGTH, "capacity": 80 + 16, "commits": 1,
                            "block_tokens": BLOCK, "num_layers": SPEC.layers,
                            "num_kv_heads": SPEC.kv_heads, "head_dim": SPEC.head_dim,
                            "vocabulary": SPEC.vocabulary, "dtype": "f32",
                            "file_bytes": os.path.getsize(cache)}
                self.assertEqual({key: facts[key] for key in expected}, expected)
                self.assertEqual(facts["schedule"]["block"], BLOCK)
                self.assertEqual([layer["pattern"] for layer in facts["schedule"]["layers"]],
                                 ["power"] * SPEC.layers)

    def test_inspect_for_people(self):
        self.assertIn(f"{LENGTH}\n", run("inspect", cache))

    def test_verify(self):
        for ranks in (None, 3):
            out = run("verify", cache, ranks=ranks)
            self.assertIn(f"{LENGTH} tokens", out)
            self.assertEqual(out.count("\n"), 1)

    def test_report_of_prefill(self):
        compute = "bf16" if "numerics bf16;" in run("version") else "f32"  # what the CPU has
        for attention in ("power", "full"):
            with self.subTest(attention=attention):
                report, out = self.folder / "report.json", self.folder / f"{attention}.h5"
                run("prefill", "--model", model, "--tokens", tokens, "--out", out, "--threads", 1,
                    "--block", BLOCK, "--attention", attention, "--report", report, "--quiet",
                    ranks=4)
                facts = json.loads(report.read_text())
                self.assertEqual(REPORT_KEYS - set(facts), set())
                self.assertEqual((facts["tokens"], facts["resumed_from"], facts["ranks"],
                                  facts["threads"], facts["compute"]), (LENGTH, 0, 4, 1, compute))
                self.assertIn(attention, facts["attention"])
                self.assertIn(facts["numerics"], run("version"))
                self.assertAlmostEqual(facts["tokens_per_s"], LENGTH / facts["wall_s"],
                                       delta=1e-6 * facts["tokens_per_s"])
                for zone, seconds in facts["zones"].items():
                    self.assertGreaterEqual(seconds["max"], seconds["mean"], zone)
                    self.assertGreaterEqual(seconds["mean"], 0, zone)
                self.assertEqual(facts["bytes_received"],
                                 [rank["bytes_planned"] for rank in facts["per_rank"]])
                self.assertEqual(len(facts["bytes_received"]), 4)
                self.assertTrue(all(bytes > 0 for bytes in facts["bytes_received"][1:]))
                self.assertEqual(sum(rank["tokens"] for rank in facts["per_rank"]), LENGTH)
                self.assertEqual(facts["cache_bytes"], os.path.getsize(out))
                self.assertEqual(len(facts["peak_rss_bytes"]), 1)
                for key in ("wall_s", "cache_write_s", "gemm_gflops", "attention_gflops"):
                    self.assertGreater(facts[key], 0, key)

    def test_bytes_received(self):
        """With full attention the rank of the last block has or gets all keys and values, in every
        layer, and none gets any twice. With a window of one block nothing is exchanged."""
        report, row_bytes = self.folder / "report.json", 2 * SPEC.kv_heads * SPEC.head_dim * 2
        for attention, most in ((("full",), LENGTH),
                                (("sliding", "--window", 1, "--sink", 0), None)):
            with self.subTest(attention=attention):
                run("prefill", "--model", model, "--tokens", tokens, "--out",
                    self.folder / "kv.h5", "--force", "--threads", 1, "--block", BLOCK,
                    "--kv-dtype", "bf16", "--report", report, "--quiet", "--attention",
                    *attention, ranks=3)
                facts = json.loads(report.read_text())
                got = [bytes / row_bytes / SPEC.layers for bytes in facts["bytes_received"]]
                if most is None:
                    self.assertEqual(got, [0, 0, 0])
                else:
                    own = [rank["tokens"] for rank in facts["per_rank"]]
                    self.assertEqual(max(a + b for a, b in zip(own, got)), most)

    def test_report_of_decode(self):
        report = self.folder / "report.json"
        decode(cache, "--report", report, count=3, ranks=2)
        facts = json.loads(report.read_text())
        self.assertEqual((facts["cached_tokens"], facts["new_tokens"], facts["ranks"]),
                         (LENGTH, 3, 2))
        self.assertGreater(facts["bytes_read"], 0)


class CacheFile(Formats):
    def test_half_dtypes(self):
        """In layer 0 the f32 cache's values, rounded once; as h5py reads them."""
        exact = Contents(cache)
        for dtype, rounded in (("bf16", ck.round_to_bf16),
                               ("f16", lambda values: values.astype(np.float16))):
            with self.subTest(dtype=dtype):
                made = prefill(self.folder / f"{dtype}.h5", "--kv-dtype", dtype, ranks=3)
                for part in ("0000/key", "0000/value"):
                    expected = rounded(exact[part])
                    self.assertEqual(made[part].dtype, expected.dtype)
                    self.assertEqual(made[part].tobytes(), expected.tobytes(), part)
                near = exact["logits"]
                error = np.linalg.norm(made["logits"] - near) / np.linalg.norm(near)
                self.assertTrue(0 < error < 0.05, error)
                self.assertEqual(len(decode(self.folder / f"{dtype}.h5")), 8)

    def test_one_token(self):
        one = self.folder / "one.txt"
        one.write_text("17")
        caches = [prefill(self.folder / f"{ranks}.h5", ranks=ranks, tokens=one)
                  for ranks in (1, 3)]
        self.assert_same(*caches)
        self.assertEqual(caches[0]["tokens"].tolist(), [17])
        run("verify", self.folder / "3.h5", ranks=3)
        self.assertEqual(decode(self.folder / "1.h5", ranks=3), decode(self.folder / "3.h5"))

    def test_more_ranks_than_blocks(self):
        few = self.folder / "few.txt"
        few.write_text(" ".join(map(str, prompt()[:10])))
        caches = [prefill(self.folder / f"{ranks}.h5", "--save-hidden", ranks=ranks, tokens=few)
                  for ranks in (1, 5)]
        self.assert_same(*caches)

    def test_hidden(self):
        """One rank writes what three did; the last row is the one that makes the logits."""
        made = prefill(self.folder / "kv.h5", "--save-hidden")
        self.assertEqual(made["hidden_all"].shape, (LENGTH, SPEC.hidden))
        self.assert_same(made, Contents(cache))
        self.assertEqual(made["hidden_all"][-1].tobytes(), made["hidden"].tobytes())
        head = SPEC.tensors()["lm_head.weight"]
        np.testing.assert_allclose(made["logits"], head @ made["hidden"], rtol=0, atol=1e-4)

    def test_no_hidden_unless_asked(self):
        prefill(self.folder / "kv.h5")
        with h5py.File(self.folder / "kv.h5") as file:
            self.assertNotIn("hidden_all", file)
        self.assertEqual(os.listdir(self.folder), ["kv.h5"])


class Decode(Formats):
    def test_first_token_is_the_likeliest(self):
        self.assertEqual(decode(cache, count=1), [int(np.argmax(Contents(cache)["logits"]))])

    def test_seed(self):
        draw = ("--temperature", 1.5, "--top-p", 0.9, "--seed")
        first = decode(cache, *draw, 11, count=20)
        self.assertEqual(decode(cache, *draw, 11, count=20), first)
        self.assertEqual(decode(cache, *draw, 11, count=20, ranks=3), first)
        self.assertNotEqual(decode(cache, *draw, 12, count=20), first)

    def test_smallest_top_p_is_greedy(self):
        self.assertEqual(decode(cache, "--temperature", 2, "--top-p", 1e-9), decode(cache))

    def test_end_token(self):
        ids = decode(cache, "--temperature", 1.5, "--seed", 3, count=30)
        self.assertEqual(len(ids), 30)
        stop = max(i for i in range(12) if ids[i] not in ids[:i])
        self.assertGreater(stop, 0)
        for number, end in enumerate((ids[stop], [ids[stop], SPEC.vocabulary - 1])):
            other = ck.write_checkpoint(self.folder / f"{number}", SPEC, {"eos_token_id": end})
            got = decode(cache, "--temperature", 1.5, "--seed", 3, count=30, model=other,
                         ranks=3)
            if isinstance(end, int):
                self.assertEqual(got, ids[:stop + 1])
            else:
                self.assertEqual(got, ids[:min(ids.index(id) for id in end if id in ids) + 1])


if __name__ == "__main__":
    unittest.main()
