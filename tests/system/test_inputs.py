"""Where prompts, token ids, batches and masks may come from, and what is said of what they are not.

    POWERPREFILL=build/powerprefill /usr/bin/python3 tests/system/test_inputs.py [-v] [NAME ...]

Needs numpy and h5py. Files of token ids are mostly given as masks of the subcommand `pattern`, which
reads them by the same function and starts at once.
"""

import gzip
import io
import json
import os
import pty
import resource
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import checkpoint as ck  # noqa: E402
import tokenizer as tk  # noqa: E402

TEXT = "the quick brown fox jumps over the lazy dog and then the other dog jumps over the fox 12 times"
TOKENIZER = tk.Tokenizer(TEXT, merges=40, special=["<|begin|>", "<|end|>"])
SPEC = ck.Spec(vocabulary=TOKENIZER.size)
OPTIONS = ["--threads", 1, "--block", 8, "--quiet"]
IDS = list(range(3, 43))

folder = None
model = None


def setUpModule():
    global folder, model
    holder = tempfile.TemporaryDirectory(prefix="powerprefill-inputs-")
    unittest.addModuleCleanup(holder.cleanup)
    folder = Path(holder.name)
    model = ck.write_checkpoint(folder / "model", SPEC)
    TOKENIZER.write(model, "<|begin|>")


def tokens_of(cache):
    with h5py.File(cache) as file:
        record = max(file["commit"][:].view("<u8")[:, :4], key=lambda row: row[2])
        return file["tokens"][:int(record[3])].tolist()


def npy(array, header=None):
    out = io.BytesIO()
    np.save(out, np.asarray(array))
    data = out.getvalue()
    if header is None:
        return data
    length = struct.unpack("<H", data[8:10])[0]
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header + data[10 + length:]


class Case(unittest.TestCase):
    def setUp(self):
        self.here = Path(tempfile.mkdtemp(dir=folder))

    def write(self, name, content):
        path = self.here / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def run_fed(self, arguments, content, path=None, ranks=None):
        """Runs with `content` on standard input, or written to the FIFO at `path`."""
        def feed():
            with open(path, "wb") as pipe:
                for at in range(0, len(content), 50):
                    pipe.write(content[at:at + 50])
                    pipe.flush()

        writer = threading.Thread(target=feed) if path else None
        if writer:
            writer.start()
        result = subprocess.run(ck.launch(arguments, ranks), input=b"" if path else content, capture_output=True,
                                timeout=60)
        if writer:
            writer.join()
        return result

    def prefill(self, *prompt):
        return ["prefill", "--model", model, *OPTIONS, "--force", "--out", self.here / "kv.h5", *prompt]

    def refused(self, code, words, *arguments, **options):
        result = subprocess.run(ck.launch(arguments, None), capture_output=True, timeout=60,
                                **{"stdin": subprocess.DEVNULL, **options})
        message = result.stderr.decode(errors="replace")
        self.assertEqual(result.returncode, code, message)
        for word in words:
            self.assertIn(str(word), message)
        return message

    def mask(self, path):
        return ["pattern", "--blocks", 4, "--json", "--attention", f"mask:{path}"]

    def distances(self, content, name="ids"):
        path = content if isinstance(content, Path) else self.write(name, content)
        result = ck.run(self.mask(path))
        self.assertEqual(result.code, 0, result)
        return json.loads(result.stdout)["patterns"][0]["distances"]


class Pipes(Case):
    def test_everything_may_come_through_a_pipe(self):
        whole = [TOKENIZER.special["<|begin|>"]] + TOKENIZER.encode(TEXT)
        text = " ".join(map(str, IDS)).encode()
        fifo = self.here / "fifo"
        os.mkfifo(fifo)
        trials = [("--prompt-file", TEXT.encode(), whole), ("--tokens", text, IDS), ("--tokens", npy(IDS), IDS)]
        for option, content, expected in trials:
            for source, path in (("/dev/stdin", None), (fifo, fifo)):
                with self.subTest(option=option, source=str(source)):
                    result = self.run_fed(self.prefill(option, source), content, path)
                    self.assertEqual(result.returncode, 0, result.stderr)
                    self.assertEqual(tokens_of(self.here / "kv.h5"), expected)

    def test_on_several_ranks_one_reads(self):
        fifo = self.here / "fifo"
        os.mkfifo(fifo)
        tokens = self.write("ids", " ".join(map(str, IDS)))
        result = self.run_fed(self.prefill("--tokens", fifo), tokens.read_bytes(), fifo, ranks=3)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(tokens_of(self.here / "kv.h5"), IDS)
        result = self.run_fed(self.prefill("--tokens", tokens, "--attention", f"mask:{fifo}"), b"0 1 3", fifo, ranks=3)
        self.assertEqual(result.returncode, 0, result.stderr)
        with h5py.File(self.here / "kv.h5") as file:
            self.assertIn(b'"distances":[0,1,3]', file.attrs["schedule"])

    def test_batch(self):
        fifo = self.here / "fifo"
        os.mkfifo(fifo)
        lines = "\ufeff" + json.dumps({"id": "a", "tokens": IDS}) + "\n" + json.dumps({"id": "b", "tokens": [1, 2]})
        for source, path in (("/dev/stdin", None), (fifo, fifo)):
            out = self.here / f"out-{path is None}"
            result = self.run_fed(["prefill", "--model", model, *OPTIONS, "--batch", source, "--out-dir", out],
                                  lines.encode(), path)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual([tokens_of(out / f"{name}.h5") for name in "ab"], [IDS, [1, 2]])

    def test_a_file_without_a_size(self):
        """/proc/self/comm names the program: no id, but no empty file either."""
        self.refused(3, ["/proc/self/comm", "byte 0", "powerprefill"], *self.mask("/proc/self/comm"))

    def test_a_read_that_fails_is_no_end(self):
        for arguments in (self.prefill("--prompt-file", "-"), self.prefill("--tokens", "/dev/stdin")):
            place = os.open(self.here, os.O_RDONLY)
            self.refused(3, ["folder"], *arguments, stdin=place)
            os.close(place)
        self.refused(3, ["folder"], *self.prefill("--prompt-file", self.here))
        # A terminal that is gone in the middle of the prompt.
        master, slave = pty.openpty()
        process = subprocess.Popen(ck.launch(self.prefill("--prompt-file", "-"), None), stdin=slave,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        os.close(slave)
        os.write(master, b"the quick brown\n")
        threading.Timer(1, os.close, [master]).start()
        _, message = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 3, message)
        self.assertIn(b"cannot read standard input", message)
        with open(self.here / "wo", "wb") as unreadable:
            self.refused(3, ["standard input", "cannot read"], *self.prefill("--prompt-file", "-"), stdin=unreadable)


class TokenFiles(Case):
    def test_a_long_word_is_never_two_ids(self):
        for zeros in (63, 64, 65, 127, 128):
            message = self.refused(3, ["token id"], *self.mask(self.write("ids", "0" * zeros + "7")))
            self.assertIn("64 or more digits", message)
        self.assertEqual(self.distances("0 " + "0" * 62 + "7"), [0, 7])

    def test_text(self):
        self.assertEqual(self.distances("\ufeff0 1\t5\r\n7\n"), [0, 1, 5, 7])
        self.assertEqual(self.distances(" ".join(map(str, range(30000)))), list(range(30000)))
        for text, words in (("0 1.5", ["byte 2", "1.5"]), ("[0, 1]", ["byte 0"]), ("0 1 18446744073709551615", ["18446744073709551615"]),
                            ("0 2147483648", ["2147483648", "range"]), ("0 -99999999999999999999", ["-99999999999999999999"]),
                            ("0 " + "7" * 100000, ["range"]), ("0 \x1b[31m", ["u001b"]), (b"0 \xff\xfe", ["byte 2"])):
            message = self.refused(3, [self.here / "ids", *words], *self.mask(self.write("ids", text)))
            self.assertLess(len(message), 1000)
            self.assertNotIn("\x1b", message)

    def test_what_is_something_else_is_named(self):
        archive = io.BytesIO()
        np.savez(archive, tokens=np.arange(4))
        for content, words in ((archive.getvalue(), ["npz", "numpy.save"]), (gzip.compress(b"0 1"), ["compressed"]),
                               ("0 1".encode("utf-16"), ["UTF-16"]), ("0 1".encode("utf-16-be"), ["byte 0"]),
                               (b"\xfe\xff" + "0 1".encode("utf-16-be"), ["UTF-16"])):
            self.refused(3, words, *self.mask(self.write("ids", content)))
        for option in (["--prompt-file"], ["--batch"]):
            rest = ["--out-dir", self.here / "o"] if option == ["--batch"] else ["--out", self.here / "kv.h5"]
            self.refused(3, ["UTF-16"], "prefill", "--model", model, *OPTIONS, *option,
                         self.write("x", '{"tokens": [1]}'.encode("utf-16")), *rest)

    def test_npy(self):
        for dtype in ("<i4", "<i8"):
            self.assertEqual(self.distances(npy(np.arange(700, dtype=dtype))), list(range(700)))
        spaces = b" " * 50000
        for header in (b"{'descr': '<i8'," + spaces + b"'shape': (3,), 'fortran_order': False}\n",
                       b'{"shape"  :  (3 , ) , "descr":"<i8"}', b"{'descr': '<i8', 'shape': (3,)}" + spaces):
            self.assertEqual(self.distances(npy(np.array([0, 1, 2], "<i8"), header)), [0, 1, 2])
        i8 = np.array([0, 1], "<i8")
        for content, words in ((npy(i8, b"{'descr': '<i8'" + b" " * 70000), ["70015", "65536"]),
                               (npy(i8, b"{'descr': '<i8', 'shape': (3,)}"), ["shorter"]),
                               (npy(i8, b"{'descr': '<i8', 'shape': (99999999999999999999,)}"), ["dimension"]),
                               (npy(i8, b"{'descr': '<i8', 'shape': (1099511627776,)}"), ["1099511627776", "accepted"]),
                               (npy(i8, b"{'descr': '<i8', 'shape': (1, 2)}"), ["dimension"]),
                               (npy(i8, b"{'descr': '<i8', 'shape': (-1,)}"), ["dimension"]),
                               (npy(i8, b"{'descr': '<i8'}"), ["dimension"]), (npy(i8, b"'descr'"), ["int32"]),
                               (npy(i8.astype(">i8")), ["little-endian"]), (npy(i8.astype("<u8")), ["int32"]),
                               (npy(np.array([0, 2**40])), [2**40]), (npy(i8)[:9], ["cut short"]), (npy(i8)[:50], ["longer"])):
            self.refused(3, [self.here / "ids", *words], *self.mask(self.write("ids", content)))

    def test_a_large_file_takes_no_memory(self):
        """64 GiB without content, in an address space of 1 GiB."""
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))

        count = 2**33
        text = self.here / "text"
        text.write_bytes(b"")
        header = self.write("npy", npy(np.arange(1), b"{'descr': '<i8', 'shape': (%d,)}" % count))
        late = self.write("late", npy(np.arange(1), b"{'descr': '<i8', 'shape': (%d,)}" % 2**30))
        trials = [(text, ["byte 0"]), (header, [count, "accepted"]), (late, ["shorter"])]
        with h5py.File(self.here / "h5", "w") as file:
            space = h5py.h5s.create_simple((count,))
            create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            h5py.h5d.create(file.id, b"tokens", h5py.h5t.STD_I64LE, space, create)
        trials.append((self.here / "h5", [count, "accepted"]))
        for path in (text, header):
            os.truncate(path, 2**36)
        for path, words in trials:
            self.refused(3, [path, *words], *self.mask(path), preexec_fn=limit)
        self.refused(3, ["17179869184 accepted"], *self.prefill("--prompt-file", text))

    def test_hdf5_of_every_version(self):
        ids = np.array([0, 1, 5, 9], np.int32)
        for name, options in (("default", {}), ("latest", {"libver": "latest"}), ("1.8", {"libver": "v108"}),
                              ("1.10", {"libver": ("v110", "v110")}), ("tracked", {"track_order": True}),
                              ("paged", {"fs_strategy": "page"})):
            for dtype in ("<i4", "<i8"):
                path = self.here / f"{name}{dtype[2]}.h5"
                with h5py.File(path, "w", **options) as file:
                    file.create_dataset("tokens", data=ids.astype(dtype)).attrs["remark"] = "x" * 100
                    for other in range(40 if name == "default" else 5):
                        file[f"other{other}"] = np.zeros(3)
                self.assertEqual(self.distances(path), ids.tolist(), name)
                # Links inside the file are followed.
                with h5py.File(path, "a", libver=options.get("libver")) as file:
                    file["group/ids"] = ids[:2].astype(dtype)
                    del file["tokens"]
                    file["tokens"] = h5py.SoftLink("link")
                    file["link"] = h5py.SoftLink("group/ids")
                self.assertEqual(self.distances(path), [0, 1], name)

    def test_hdf5_that_is_refused(self):
        for options in ({}, {"libver": "latest"}):
            for number, make in enumerate((lambda f: f.create_dataset("tokens", data=np.arange(4), chunks=(2,)),
                                           lambda f: f.create_dataset("tokens", data=np.arange(4).astype("u4")),
                                           lambda f: f.create_dataset("tokens", data=np.arange(4).reshape(2, 2)),
                                           lambda f: f.create_group("tokens"), lambda f: f.create_dataset("other", data=[0]))):
                path = self.here / f"{number}.h5"
                with h5py.File(path, "w", **options) as file:
                    make(file)
                self.refused(3, [path, "tokens"], *self.mask(path))

    def test_a_cache_means_its_committed_tokens(self):
        ids = self.write("ids", " ".join(map(str, IDS[:20])))
        old, new = self.here / "old.h5", self.here / "kv.h5"
        self.assertEqual(ck.run(["prefill", "--model", model, *OPTIONS, "--tokens", ids, "--out", old]).code, 0)
        result = ck.run(self.prefill("--tokens", old), 2)
        self.assertEqual(result.code, 0, result)
        self.assertEqual(tokens_of(new), IDS[:20])
        decode = ["decode", new, "--model", model, "--threads", 1, "--ids", "--quiet", "--max-new-tokens", 4, "--tokens"]
        answers = {ck.run([*decode, path]).stdout for path in (old, ids)}
        self.assertEqual(len(answers), 1, answers)
        self.assertEqual(len(answers.pop().split()), 4)
        # Its tokens are those of the commit, or it is damaged.
        with h5py.File(old, "r+") as file:
            file["tokens"][7] = 1
        self.refused(4, [old, "damaged"], *self.prefill("--tokens", old))


class Batch(Case):
    LINES = [{"id": "a", "tokens": IDS}, {"id": "bad", "tokens": [1, 2, 10**6]}, {"id": "empty", "tokens": []}, {"id": "c", "tokens": [5, 6]}]

    def test_a_bad_line_keeps_no_other_from_being_done(self):
        batch = self.write("b.jsonl", "\n".join(map(json.dumps, self.LINES)))
        for ranks in (None, 3):
            out, report = self.here / f"out-{ranks}", self.here / f"report-{ranks}"
            result = ck.run(["prefill", "--model", model, *OPTIONS, "--batch", batch, "--out-dir", out, "--report", report], ranks)
            self.assertEqual(result.code, 3, result)
            self.assertEqual(result.stderr.count("error"), 1, result)
            for word in ("2 of 4", "line 2 (bad)", "vocabulary", "line 3 (empty)"):
                self.assertIn(word, result.stderr)
            self.assertEqual(sorted(path.name for path in out.iterdir()), ["a.h5", "c.h5"])
            self.assertEqual([tokens_of(out / f"{name}.h5") for name in "ac"], [IDS, [5, 6]])
            self.assertEqual([entry["id"] for entry in json.loads(report.read_text())["prompts"]], ["a", "c"])

    def test_of_another_schedule(self):
        """The code is that of the first line that failed."""
        out = self.here / "out"
        command = ["prefill", "--model", model, *OPTIONS, "--out-dir", out, "--batch"]
        self.assertEqual(ck.run([*command, self.write("1", '{"id": "a", "tokens": [1, 2]}')]).code, 0)
        batch = self.write("b.jsonl", "\n".join(map(json.dumps, self.LINES)))
        result = ck.run([*command, batch, "--attention", "power"], 2)
        self.assertEqual(result.code, 4, result)
        for word in ("3 of 4", "line 1 (a)", "line 2 (bad)", "line 3 (empty)"):
            self.assertIn(word, result.stderr)
        self.assertEqual(tokens_of(out / "c.h5"), [5, 6])

    def test_score(self):
        batch = self.write("b.jsonl", "\n".join(map(json.dumps, self.LINES)))
        for ranks in (None, 2):
            nll = self.here / f"nll-{ranks}"
            result = ck.run(["score", "--model", model, *OPTIONS, "--batch", batch, "--nll", nll], ranks)
            self.assertEqual(result.code, 3, result)
            self.assertIn("line 2 (bad)", result.stderr)
            self.assertEqual([json.loads(line)["id"] for line in nll.read_text().splitlines()], ["a", "c"])

    def test_other_failures_end_it(self):
        batch = self.write("b.jsonl", "\n".join(map(json.dumps, self.LINES)))
        out = self.here / "out"
        (out / "a.h5").mkdir(parents=True)
        result = ck.run(["prefill", "--model", model, *OPTIONS, "--batch", batch, "--out-dir", out, "--force"])
        self.assertEqual(result.code, 2, result)
        self.assertIn("line 1 (a)", result.stderr)
        self.assertFalse((out / "c.h5").exists())

    def test_ids_are_shown_as_they_are_written(self):
        for number in (2**64 - 1, 2**63, -1 - 2**31, 2**31, 1.5):
            batch = self.write("b.jsonl", '{"tokens": [1, %s]}' % number)
            self.refused(3, ["line 1", "number 1 is", number], "prefill", "--model", model, *OPTIONS, "--batch", batch,
                         "--out-dir", self.here / "out")
        deep = self.write("b.jsonl", '{"tokens": ' + "[" * 200000 + "]" * 200000 + "}")
        self.refused(3, ["line 1", "nested"], "prefill", "--model", model, *OPTIONS, "--batch", deep, "--out-dir", self.here / "out")


class LongMasks(Case):
    def test_a_pattern_of_many_distances_in_many_layers(self):
        deep = ck.write_checkpoint(self.here / "deep", ck.Spec(layers=60, hidden=8, heads=1, kv_heads=1, feed_forward=8))
        mask = self.write("mask", " ".join(map(str, range(500))))
        ids = self.write("ids", " ".join(map(str, IDS)))
        out = self.here / "kv.h5"
        command = ["prefill", "--model", deep, *OPTIONS, "--tokens", ids, "--out", out, "--full-layers", "0,59",
                   "--attention"]
        result = ck.run([*command, f"mask:{mask}"], 2)
        self.assertEqual(result.code, 0, result)
        shown = json.loads(ck.run(["inspect", out, "--json"]).stdout)["schedule"]
        self.assertEqual(shown["layers"], [0] + [1] * 58 + [0])
        self.assertEqual([pattern["pattern"] for pattern in shown["patterns"]], ["full", "mask"])
        self.assertEqual(ck.run([*command, f"mask:{mask}", "--resume"]).code, 0)
        self.assertEqual(ck.run(["decode", out, "--model", deep, "--threads", 1, "--max-new-tokens", 2]).code, 0)
        self.assertEqual(ck.run(["verify", out]).code, 0)
        result = ck.run([*command, "full", "--resume"])
        self.assertEqual(result.code, 4, result)
        # Beyond what a file holds, before any weights are looked at.
        (deep / "model.safetensors").unlink()
        mask.write_text(" ".join(map(str, range(20000))))
        result = ck.run([*command, f"mask:{mask}", "--force"], 2)
        self.assertEqual(result.code, 2, result)
        self.assertIn("fewer distances", result.stderr)
        self.assertEqual(ck.run(["plan", "--model", deep, "--tokens", 100, "--attention", f"mask:{mask}"]).code, 2)


if __name__ == "__main__":
    unittest.main()
