"""Chunks, resume, prefix reuse and continuation give the bits of one undisturbed prefill."""

import json
import pathlib
import signal
import sys
import tempfile
import time
import unittest
import uuid

import h5py
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.checkpoint import Spec, processes_of, run, start, write_checkpoint  # noqa: E402
from support.model_case import ModelCase  # noqa: E402
from support.cache import committed as digest  # noqa: E402

BLOCK = 16
TOKENS = BLOCK * 38 + 5
MODEL = Spec(layers=3, heads=6, kv_heads=3)
PATTERNS = {
    "power": "--attention power --window 2 --sink 1",
    "sink beyond a chunk": "--attention power --window 2 --sink 4",
    "full": "--attention full",
    "hybrid": "--attention power --window 2 --full-layers 0,2",
    "bf16": "--attention power --window 2 --kv-dtype bf16",
    "bf16 compute": "--attention power --window 2 --full-layers 1 --compute bf16",
    "f16": "--attention stride --window 3 --stride 8 --kv-dtype f16",
}


class Chunks(ModelCase):
    SPEC = MODEL

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.other_model = write_checkpoint(cls.folder / "other", Spec(layers=3, heads=6, kv_heads=3, seed=9))
        random = np.random.default_rng(5)
        cls.ids = random.integers(0, MODEL.vocabulary, TOKENS).astype(np.int32)

    def setUp(self):
        scratch = tempfile.TemporaryDirectory(dir=self.folder)
        self.addCleanup(scratch.cleanup)
        self.here = pathlib.Path(scratch.name)

    def file_of(self, ids):
        path = self.here / f"tokens-{len(ids)}-{hash(ids.tobytes()) & 0xffffff}.npy"
        np.save(path, ids)
        return path

    def arguments(self, ids, out, options, model=None, block=BLOCK):
        compute = [] if "--compute" in options else ["--compute", "f32"]
        return ["prefill", "--model", model or self.model, "--tokens", self.file_of(ids), "--block",
                block, "--out", out, "--report", self.here / "report.json", "--quiet", "--threads",
                1, "--save-hidden", *compute, *options.split()]

    def prefill(self, ids, name, options, ranks=1, code=0, model=None, block=BLOCK):
        result = run(self.arguments(ids, self.here / name, options, model, block), ranks=ranks,
                     timeout=120)
        self.assertEqual(result.code, code, result)
        if code != 0:
            return result.stderr
        return json.loads((self.here / "report.json").read_text())

    def digest(self, name, tokens=None):
        return digest(self.here / name, tokens)

    def test_chunk_sizes(self):
        for name, options in PATTERNS.items():
            self.prefill(self.ids, "whole.h5", options + " --force", ranks=2)
            whole = self.digest("whole.h5")
            for chunk, ranks in ((BLOCK, 1), (3 * BLOCK, 3), (100, 2), (20 * BLOCK, 4), (10**6, 3)):
                with self.subTest(name, chunk=chunk, ranks=ranks):
                    report = self.prefill(self.ids, "parts.h5",
                                          f"{options} --force --chunk-tokens {chunk}", ranks)
                    size = -(-chunk // BLOCK) * BLOCK
                    self.assertEqual(report["chunks"], -(-TOKENS // size))
                    self.assertEqual(report["chunk_tokens"], size)
                    self.assertEqual(self.digest("parts.h5"), whole)
                    if report["chunks"] > 1:
                        self.assertGreater(sum(r["past_bytes_read"] for r in report["per_rank"]), 0)

    def test_resume_a_longer_prompt(self):
        """Also from within a block, and beyond the room of the file."""
        options = PATTERNS["hybrid"] + " --reserve 0"
        self.prefill(self.ids, "whole.h5", options)
        for first in (1, BLOCK, 5 * BLOCK + 3, 37 * BLOCK, TOKENS - 1):
            with self.subTest(first=first):
                self.prefill(self.ids[:first], "parts.h5", options + " --force", ranks=2)
                report = self.prefill(self.ids, "parts.h5",
                                      options + f" --resume --chunk-tokens {7 * BLOCK}", ranks=3)
                self.assertEqual(report["resumed_from"], first)
                self.assertEqual(report["computed_tokens"], TOKENS - first)
                self.assertEqual(self.digest("parts.h5"), self.digest("whole.h5"))
                self.assertEqual(run(["verify", self.here / "parts.h5"], ranks=2).code, 0)
        self.assertEqual([p.name for p in self.here.iterdir() if p.name.startswith(".")], [])

    def test_resume_of_what_is_complete_or_absent(self):
        options = PATTERNS["power"]
        report = self.prefill(self.ids, "new.h5", options + " --resume")
        self.assertEqual(report["resumed_from"], 0)
        before = self.digest("new.h5")
        report = self.prefill(self.ids, "new.h5", options + " --resume", ranks=3)
        self.assertEqual((report["resumed_from"], report["computed_tokens"]), (TOKENS, 0))
        self.assertEqual(self.digest("new.h5"), before)

    def test_a_file_that_is_refused_stays_as_it_is(self):
        """Although the prompt is longer than its room, for which it would be replaced."""
        options = PATTERNS["power"] + " --reserve 0"
        self.prefill(self.ids[:BLOCK], "kv.h5", options)
        path = self.here / "kv.h5"
        before = (path.stat().st_ino, path.read_bytes())
        self.prefill(self.ids, "kv.h5", options + " --resume", ranks=2, code=4,
                     model=self.other_model)
        self.assertEqual((path.stat().st_ino, path.read_bytes()), before)

    def test_resume_refuses_what_does_not_fit(self):
        self.prefill(self.ids[:100], "kv.h5", PATTERNS["power"])
        before = (self.here / "kv.h5").read_bytes()
        changed = self.ids.copy()
        changed[50] = (changed[50] + 1) % MODEL.vocabulary
        for ids, options, model, field in (
                (self.ids, PATTERNS["full"], None, "schedule"),
                (self.ids, PATTERNS["bf16"], None, "dtype"),
                (self.ids, PATTERNS["power"], self.other_model, "weights"),
                (changed, PATTERNS["power"], None, "token 50")):
            with self.subTest(field):
                error = self.prefill(ids, "kv.h5", options + " --resume", ranks=2, code=4, model=model)
                self.assertIn(field, error)
        self.prefill(self.ids, "kv.h5", PATTERNS["power"], code=2)
        self.assertEqual((self.here / "kv.h5").read_bytes(), before)

    def test_prefix(self):
        options = PATTERNS["hybrid"]
        self.prefill(self.ids, "whole.h5", options)
        other = self.ids.copy()
        other[300:] = (other[300:] + 1) % MODEL.vocabulary
        self.prefill(other, "other.h5", options, ranks=2)
        report = self.prefill(self.ids, "new.h5", f"{options} --prefix {self.here / 'other.h5'} "
                              f"--chunk-tokens {9 * BLOCK}", ranks=3)
        self.assertEqual(report["reused_tokens"], 300 // BLOCK * BLOCK)
        self.assertEqual(report["computed_tokens"], TOKENS - 300 // BLOCK * BLOCK)
        self.assertEqual(self.digest("new.h5"), self.digest("whole.h5"))
        # The same prompt again: all but the last block.
        report = self.prefill(self.ids, "again.h5", f"{options} --prefix {self.here / 'new.h5'}")
        self.assertEqual(report["reused_tokens"], (TOKENS - 1) // BLOCK * BLOCK)
        self.assertEqual(self.digest("again.h5"), self.digest("whole.h5"))
        # Nothing in common.
        none = (self.ids + 1) % MODEL.vocabulary
        report = self.prefill(none, "none.h5", f"{options} --prefix {self.here / 'new.h5'}", ranks=2)
        self.assertEqual(report["reused_tokens"], 0)
        error = self.prefill(self.ids, "bad.h5", f"{PATTERNS['full']} --prefix {self.here / 'new.h5'}",
                             code=4)
        self.assertIn("schedule", error)
        self.assertFalse((self.here / "bad.h5").exists())

    def decode(self, name, options, ranks=1):
        result = run(["decode", self.here / name, "--model", self.model, "--quiet", "--ids", "--threads",
                      1, "--report", self.here / "decode.json", *options.split()], ranks=ranks,
                     timeout=120)
        self.assertEqual(result.code, 0, result)
        return [int(word) for word in result.stdout.split()]

    def test_continuation(self):
        options = PATTERNS["hybrid"] + " --reserve 64"
        self.prefill(self.ids, "whole.h5", options)
        expected = self.decode("whole.h5", "--max-new-tokens 20")
        for first in (7 * BLOCK, 200):
            more = self.file_of(self.ids[first:])
            for ranks in (1, 3):
                with self.subTest(first=first, ranks=ranks):
                    self.prefill(self.ids[:first], "part.h5", options + " --force", ranks=2)
                    before = (self.here / "part.h5").read_bytes()
                    found = self.decode("part.h5", f"--tokens {more} --max-new-tokens 20", ranks)
                    self.assertEqual(found, expected)
                    self.assertEqual((self.here / "part.h5").read_bytes(), before)
                    # With --append the same, in two pieces, and the file is that of the whole prompt.
                    found = self.decode("part.h5", f"--tokens {more} --append --max-new-tokens 12", ranks)
                    self.assertEqual(digest(self.here / "part.h5", TOKENS, last=False),
                                     digest(self.here / "whole.h5", TOKENS, last=False))
                    found += self.decode("part.h5", "--append --max-new-tokens 8", 2)
                    self.assertEqual(found, expected)
                    self.assertEqual(run(["verify", self.here / "part.h5"], ranks=2).code, 0)
                    state = json.loads(run(["inspect", "--json", self.here / "part.h5"]).stdout)
                    self.assertEqual(state["tokens"], TOKENS + 20)
                    self.assertEqual(state["decoded_ranges"], [[TOKENS, TOKENS + 20]])

    def test_decoded_rows(self):
        """The same bits over ranks, close to a prefill of the same tokens; a prefix stops before them."""
        options = PATTERNS["power"] + " --reserve 16 --compute f32"  # close only in f32
        results = []
        for ranks in (1, 2, 3, 4):
            self.prefill(self.ids[:200], "kv.h5", options + " --force", ranks=2)
            found = self.decode("kv.h5", "--append --max-new-tokens 70", ranks)
            results.append((found, digest(self.here / "kv.h5", 270)))
        for result in results[1:]:
            self.assertEqual(result, results[0])
        everything = np.concatenate([self.ids[:200], np.array(results[0][0], np.int32)])
        self.prefill(everything, "whole.h5", options)
        with h5py.File(self.here / "kv.h5") as decoded, h5py.File(self.here / "whole.h5") as whole:
            for name in ("hidden_all", "layers/0002/key", "layers/0002/value"):
                np.testing.assert_allclose(decoded[name][:270], whole[name][:270], atol=1e-5, rtol=1e-5)
        report = self.prefill(everything, "new.h5", f"{options} --prefix {self.here / 'kv.h5'}")
        self.assertEqual(report["reused_tokens"], 200 // BLOCK * BLOCK)
        self.assertEqual(digest(self.here / "new.h5", 270), digest(self.here / "whole.h5", 270))

    def test_two_writers(self):
        self.prefill(self.ids[:100], "kv.h5", PATTERNS["power"])
        import fcntl
        import struct
        with open(self.here / "kv.h5", "r+b") as file:
            lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
            fcntl.fcntl(file, 37, lock)  # F_OFD_SETLK
            error = self.prefill(self.ids, "kv.h5", PATTERNS["power"] + " --resume", ranks=2, code=4)
            self.assertIn("in use by another writer", error)
            result = run(["decode", self.here / "kv.h5", "--model", self.model, "--append"], ranks=2)
            self.assertEqual(result.code, 4, result)
            self.decode("kv.h5", "--max-new-tokens 2")  # readers do not mind
        self.prefill(self.ids, "kv.h5", PATTERNS["power"] + " --resume")

    def test_stop_signal(self):
        """SIGUSR1 to mpirun, repeatedly, at many times: exit 7 or done, and resume completes."""
        options = PATTERNS["hybrid"] + f" --chunk-tokens {BLOCK}"
        self.prefill(self.ids, "whole.h5", options)
        interrupted = 0
        for wait in (0, 0.05, 0.1, 0.2, 0.4):
            with self.subTest(wait=wait):
                (self.here / "kv.h5").unlink(missing_ok=True)
                job = uuid.uuid4().hex
                process = start(self.arguments(self.ids, self.here / "kv.h5", options), ranks=3, job=job)
                # Once the file is there, all ranks listen; before, a signal is a kill.
                while process.poll() is None and not (self.here / "kv.h5").exists():
                    time.sleep(0.01)
                time.sleep(wait)
                for _ in range(3):
                    if process.poll() is None:
                        process.send_signal(signal.SIGUSR1)
                    time.sleep(0.02)
                _, errors = process.communicate(timeout=60)
                # mpirun stops forwarding when its ranks have ended, and a signal then ends mpirun itself.
                self.assertIn(process.returncode, (0, 7, -signal.SIGUSR1), errors)
                end = time.monotonic() + 20
                while processes_of(job) and time.monotonic() < end:
                    time.sleep(0.02)
                self.assertFalse(processes_of(job))
                if process.returncode == 7:
                    interrupted += 1
                    self.assertIn("--resume", errors)
                    self.assertEqual(errors.count("powerprefill: error"), 1, errors)
                self.prefill(self.ids, "kv.h5", options + " --resume", ranks=2)
                self.assertEqual(self.digest("kv.h5"), self.digest("whole.h5"))
        self.assertGreater(interrupted, 0)

    def test_flat_memory(self):
        """64 chunks take the memory of a few."""
        ids = np.random.default_rng(1).integers(0, MODEL.vocabulary, 64 * 1024).astype(np.int32)
        peaks = []
        for count in (4, 64):
            report = self.prefill(ids[:count * 1024], "kv.h5", PATTERNS["power"] +
                                  " --force --chunk-tokens 1024", block=64)
            self.assertEqual(report["chunks"], count)
            peaks.append(report["per_rank"][0]["peak_rss_bytes"])
            buffers = report["per_rank"][0]["activation_bytes"]
        # What grows: token ids, their checksums, and the tables of blocks.
        self.assertLess(peaks[1] - peaks[0], 6 * 2**20, peaks)
        self.assertLess(buffers, 120 * 2**20)


if __name__ == "__main__":
    unittest.main()
