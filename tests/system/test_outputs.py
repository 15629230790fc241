"""Outputs: what they may be, what happens to what was there before, and what a failure leaves."""

import concurrent.futures
import fcntl
import json
import os
import pathlib
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

import h5py

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.checkpoint import Spec, launch, run, write_checkpoint  # noqa: E402

SPEC = Spec()
TOKENS = " ".join(str(i % SPEC.vocabulary) for i in range(40))
BEYOND = str(SPEC.vocabulary)  # no token id: found out after the outputs were opened
LEFT = "precious"


class Output:
    """One output of one command: how to name it, and what it may not be."""

    def __init__(self, name, command, inputs, others=()):
        self.name, self.command, self.inputs, self.others = name, command, inputs, others

    @property
    def is_cache(self):
        return self.name in ("prefill --out", "prefill --out-dir")


def prefill(here, *more, out="new.h5", tokens="tokens.txt"):
    return ["prefill", "--model", here / "model", "--tokens", here / tokens, "--out", here / out,
            "--block", 16, "--reserve", 0, "--threads", 1, "--quiet", "--force", *more]


def decode(here, *more, cache="kv.h5"):
    return ["decode", here / cache, "--model", here / "model", "--ids", "--max-new-tokens", 2,
            "--threads", 1, "--quiet", *more]


def score(here, *more, prompt=("--tokens", "tokens.txt")):
    return ["score", "--model", here / "model", prompt[0], here / prompt[1], "--block", 16,
            "--threads", 1, "--quiet", *more]


def batch(here, *more):
    return ["prefill", "--model", here / "model", "--batch", here / "batch.jsonl", "--block", 16,
            "--reserve", 0, "--threads", 1, "--quiet", "--force", *more]


def masked(here):
    return ["--attention", f"mask:{here / 'mask.txt'}"]


MODEL = ["model/config.json", "model/model.safetensors"]
# Each is given the folder and the path of the output.
OUTPUTS = [
    Output("prefill --out", lambda h, o: prefill(h, *masked(h), "--prefix", h / "kv.h5", out=o),
           [*MODEL, "tokens.txt", "mask.txt", "kv.h5"]),
    Output("prefill --report",
           lambda h, o: prefill(h, *masked(h), "--report", o, "--trace", h / "trace.json"),
           [*MODEL, "tokens.txt", "mask.txt"], ["new.h5", "trace.json"]),
    Output("prefill --trace", lambda h, o: prefill(h, "--trace", o), [*MODEL, "tokens.txt"],
           ["new.h5"]),
    Output("prefill --batch --report",
           lambda h, o: batch(h, "--out-dir", h / "dir", "--report", o),
           [*MODEL, "batch.jsonl"], ["dir/a.h5"]),
    Output("decode --report", lambda h, o: decode(h, "--tokens", h / "tokens.txt", "--report", o),
           [*MODEL, "tokens.txt", "kv.h5"]),
    Output("decode --append --report",
           lambda h, o: decode(h, "--append", "--report", o, cache="own.h5"), MODEL, ["own.h5"]),
    Output("score --nll", lambda h, o: score(h, *masked(h), "--nll", o),
           [*MODEL, "tokens.txt", "mask.txt"]),
    Output("score --batch --nll",
           lambda h, o: score(h, "--nll", o, prompt=("--batch", "batch.jsonl")),
           [*MODEL, "batch.jsonl"]),
    Output("export --out", lambda h, o: ["export", h / "kv.h5", "--force", "--out", o], ["kv.h5"]),
    Output("pattern --svg",
           lambda h, o: ["pattern", *masked(h), "--svg", o, "--coverage-svg", h / "c.svg"],
           ["mask.txt"], ["c.svg"]),
    Output("pattern --coverage-svg", lambda h, o: ["pattern", "--coverage-svg", o], []),
]


def shell(script, arguments, **more):
    """The program, started by a shell that says `exec "$@"` somewhere in its script."""
    command = ["bash", "-c", script, "bash", *launch(arguments, None)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **more)


def run_all(commands):
    """Most of a short run is waiting."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(run, commands))


class Outputs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = cls.enterClassContext(tempfile.TemporaryDirectory(dir="/var/tmp"))
        cls.base = pathlib.Path(folder) / "base"
        write_checkpoint(cls.base / "model", SPEC)
        (cls.base / "tokens.txt").write_text(TOKENS)
        (cls.base / "bad.txt").write_text(BEYOND)
        (cls.base / "mask.txt").write_text("0 1 2")
        ids = [int(word) for word in TOKENS.split()]
        (cls.base / "batch.jsonl").write_text(json.dumps({"id": "a", "tokens": ids}))
        (cls.base / "dir").mkdir()
        made = run(prefill(cls.base, *masked(cls.base), out="kv.h5"))
        assert made.code == 0, made
        shutil.copy(cls.base / "kv.h5", cls.base / "own.h5")

    def setUp(self):
        self.here = self.base.parent / self._testMethodName
        shutil.copytree(self.base, self.here)

    def done(self, arguments, ranks=None):
        result = run(arguments, ranks)
        self.assertEqual((result.code, result.left), (0, []), result)
        return result

    def ends(self, result, code, *words):
        """With this code, one message that has these words, and no temporary file."""
        found = getattr(result, "returncode", getattr(result, "code", None))
        self.assertEqual(found, code, result)
        self.assertEqual(result.stderr.count("powerprefill: error"), 1, result)
        for word in words:
            self.assertIn(str(word), result.stderr)
        self.no_temporaries()

    def no_temporaries(self):
        self.assertEqual([p.name for p in self.here.rglob(".*")], [])

    def contents(self):
        return {p: p.read_bytes() for p in self.here.rglob("*") if p.is_file()}

    def require_whole(self, output, path):
        """A file as the command makes it."""
        content = path.read_bytes()
        if output.is_cache:
            self.done(["verify", path])
        elif "svg" in output.name:
            self.assertTrue(content.startswith(b"<?xml") and content.endswith(b"</svg>\n"))
        elif "export" in output.name:
            (length,) = struct.unpack("<Q", content[:8])
            ends = [t["data_offsets"][1] for name, t in json.loads(content[8:8 + length]).items()
                    if name != "__metadata__"]
            self.assertEqual(len(content), 8 + length + max(ends))
        else:
            json.loads(content)

    # What an output may not be.

    def test_collisions(self):
        """With every input and every other output, under any name."""
        cases = []
        for output in OUTPUTS:
            for number, name in enumerate((*output.inputs, *output.others)):
                same, aliases = self.here / name, []
                if same.exists() and number == 0:
                    aliases = [self.here / f"{len(cases)}.link", self.here / f"{len(cases)}.hard"]
                    aliases[0].symlink_to(same)
                    os.link(same, aliases[1])
                for path in (same, *aliases):
                    twisted = self.here / "model" / ".." / path.relative_to(self.here)
                    cases.append((output, twisted))
        before = self.contents()
        results = run_all(output.command(self.here, path) for output, path in cases)
        for (output, path), result in zip(cases, results):
            with self.subTest(output=output.name, path=path):
                self.ends(result, 2, "is the same file as", path)
        self.assertEqual(self.contents(), before)

    def test_collision_on_all_ranks(self):
        result = run(prefill(self.here, "--report", self.here / "tokens.txt"), ranks=3)
        self.ends(result, 2, "is the same file as --tokens")

    def test_collision_by_descriptor(self):
        before = self.contents()
        for output in OUTPUTS:
            if not output.name.startswith(("decode", "pattern --svg")):
                continue
            with self.subTest(output=output.name), open(self.here / output.inputs[-1]) as file:
                path = f"/proc/self/fd/{file.fileno()}"
                result = subprocess.run(launch(output.command(self.here, path), None),
                                        capture_output=True, text=True, pass_fds=[file.fileno()])
                self.ends(result, 2, "is the same file as")
        self.assertEqual(self.contents(), before)

    def test_collision_with_standard_output(self):
        for output in OUTPUTS:
            if output.is_cache:
                continue
            with self.subTest(output=output.name):
                path = self.here / "output"
                path.write_text(LEFT)
                with open(path, "a") as file:
                    result = subprocess.run(launch(output.command(self.here, path), None),
                                            stdout=file, stderr=subprocess.PIPE, text=True)
                self.ends(result, 2, "standard output")
                self.assertEqual(path.read_text(), LEFT)
        with open(self.here / "kv.h5", "ab") as file:
            result = subprocess.run(launch(decode(self.here), None), stdout=file,
                                    stderr=subprocess.PIPE, text=True)
        self.ends(result, 2, "the cache", "standard output")

    def test_batch_collisions(self):
        """Of a file that a prompt's id names."""
        beside = self.here / "model" / "added_tokens.json"
        beside.write_text("{}")
        self.addCleanup(beside.unlink)
        for other in ("model/model.safetensors", "model/added_tokens.json", "batch.jsonl"):
            with self.subTest(other=other):
                link = self.here / "dir" / "a.h5"
                link.symlink_to(self.here / other)
                before = self.contents()
                self.ends(run(batch(self.here, "--out-dir", self.here / "dir")), 2,
                          "is the same file as")
                self.assertEqual(self.contents(), before)
                link.unlink()

    def test_no_file(self):
        """Folders and disks are no outputs, and a cache is no stream."""
        results = run_all(output.command(self.here, self.here / "dir") for output in OUTPUTS)
        for output, result in zip(OUTPUTS, results):
            with self.subTest(output=output.name):
                self.ends(result, 2, "dir is a folder")
        self.ends(run(prefill(self.here, out="/dev/null")), 2, "not a regular file")
        self.assertTrue(stat.S_ISCHR(os.stat("/dev/null").st_mode))

    def test_unwritable(self):
        """Found out before the model is loaded: it has no weights."""
        (self.here / "model" / "model.safetensors").unlink()
        for path, word in ((self.here / "nowhere" / "output", "does not exist"),
                           (pathlib.Path("/sys/output"), "cannot make a file")):
            results = run_all(output.command(self.here, path) for output in OUTPUTS)
            for output, result in zip(OUTPUTS, results):
                with self.subTest(output=output.name, path=path):
                    self.ends(result, 5, path, word)

    # What an output may be.

    def test_links_and_modes(self):
        """A link stays, and its target is made or replaced; an earlier file's mode stays; a new file
        follows the umask."""
        for output in OUTPUTS:
            with self.subTest(output=output.name):
                target, link = self.here / "dir" / "target", self.here / "link"
                link.symlink_to("dir/target")  # leads to nothing yet
                result = shell('umask 002; exec "$@"', output.command(self.here, link))
                self.assertEqual(result.returncode, 0, result)
                self.assertTrue(link.is_symlink())
                self.require_whole(output, target)
                self.assertEqual(target.stat().st_mode & 0o777, 0o664)
                old = target.stat().st_ino
                target.chmod(0o600)
                if os.geteuid() == 0:
                    os.chown(target, 12345, 23456)
                owner = (target.stat().st_uid, target.stat().st_gid)
                self.done(output.command(self.here, link))
                self.assertTrue(link.is_symlink())
                self.assertNotEqual(target.stat().st_ino, old)
                self.require_whole(output, target)
                self.assertEqual(target.stat().st_mode & 0o777, 0o600)
                self.assertEqual((target.stat().st_uid, target.stat().st_gid), owner)
                target.unlink()
                link.unlink()
                self.no_temporaries()

    def test_growth_through_a_link(self):
        """--append and --resume go on with the target, and it keeps mode and owner as it grows."""
        target, link = self.here / "own.h5", self.here / "dir" / "link.h5"
        link.symlink_to("../own.h5")
        target.chmod(0o640)
        if os.geteuid() == 0:
            os.chown(target, 12345, 23456)
        owner = (target.stat().st_uid, target.stat().st_gid)
        with h5py.File(target) as file:
            small = file.attrs["capacity"]
        (self.here / "longer.txt").write_text(TOKENS + " 7" * 300)
        appended = decode(self.here, "--append", "--tokens", self.here / "tokens.txt", cache=link)
        resumed = prefill(self.here, *masked(self.here), tokens="longer.txt", out=link)
        resumed[resumed.index("--force")] = "--resume"
        for command in (appended, resumed):
            shutil.copyfile(self.base / "own.h5", target)
            self.done(command, ranks=2)
            self.assertTrue(link.is_symlink())
            with h5py.File(target) as file:
                self.assertGreater(file.attrs["capacity"], small)
            self.done(["verify", target])
            self.assertEqual(target.stat().st_mode & 0o777, 0o640)
            self.assertEqual((target.stat().st_uid, target.stat().st_gid), owner)
            self.no_temporaries()

    def test_streams(self):
        """Devices, pipes and descriptors get what a file would."""
        streams = [output for output in OUTPUTS if not output.is_cache]
        for output in streams:
            with self.subTest(output=output.name):
                result, copy = self.through_pipe(lambda fifo: run(output.command(self.here, fifo)))
                self.assertEqual(result.code, 0, result)
                self.require_whole(output, copy)
        output = streams[-1]
        result, copy = self.through_pipe(lambda fifo: shell(
            f'exec "$@" 5>{fifo}', output.command(self.here, "/dev/fd/5")))
        self.assertEqual(result.returncode, 0, result)
        self.require_whole(output, copy)
        self.done(streams[0].command(self.here, "/dev/null"))
        self.assertTrue(stat.S_ISCHR(os.stat("/dev/null").st_mode))

    def through_pipe(self, start):
        """What the start of a run with a named pipe returns, and a file of what came through."""
        copy, fifo = self.here / "copy", self.here / "fifo"
        os.mkfifo(fifo)
        reader = threading.Thread(target=lambda: copy.write_bytes(fifo.read_bytes()))
        reader.start()
        result = start(fifo)
        self.assertTrue(stat.S_ISFIFO(os.stat(fifo).st_mode))
        os.close(os.open(fifo, os.O_RDWR | os.O_NONBLOCK))  # the reader ends whatever happened
        reader.join()
        fifo.unlink()
        return result, copy

    def test_standard_output(self):
        result = self.done(decode(self.here, "--report", "/dev/stdout"))
        ids, report = result.stdout.split("\n", 1)
        self.assertEqual(json.loads(report)["new_tokens"], len(ids.split()))
        with open(self.here / "safetensors", "wb") as file:  # nothing but that is in it
            command = ["export", self.here / "kv.h5", "--out", "/dev/stdout"]
            self.assertEqual(run(command, stdout=file).code, 0)
        self.require_whole(OUTPUTS[-3], self.here / "safetensors")
        # A descriptor that the program was not started with is one of MPI's, or none.
        for descriptor in (3, 14):
            result = run(decode(self.here, "--report", f"/dev/fd/{descriptor}"))
            self.assertEqual(result.code, 5, result)

    def test_export_needs_force(self):
        path = self.here / "out"
        path.write_text(LEFT)
        self.ends(run(["export", self.here / "kv.h5", "--out", path]), 2, "exists; add --force")
        self.assertEqual(path.read_text(), LEFT)

    # Failures.

    def test_failure_keeps_what_was_there(self):
        """A run that fails after its outputs were opened: after a bad token, a damaged block, or for
        a limit of file sizes."""
        with h5py.File(self.here / "kv.h5") as file:
            at = file["layers/0001/value"].id.get_offset()
        with open(self.here / "kv.h5", "r+b") as file:
            file.seek(at)
            file.write(b"\xff" * 4)
        (self.here / "tokens.txt").write_text(BEYOND)
        (self.here / "batch.jsonl").write_text(json.dumps({"id": "a", "tokens": [int(BEYOND)]}))
        for output in OUTPUTS:
            if "--append" in output.name:
                continue
            with self.subTest(output=output.name):
                path = self.here / "output"
                path.write_text(LEFT)
                command = output.command(self.here, path)
                if "pattern" in output.name:
                    self.ends(shell('ulimit -f 0; exec "$@"', command), 5, "File too large")
                else:
                    self.ends(run(command), 4 if "export" in output.name else 3)
                self.assertEqual(path.read_text(), LEFT)
                path.unlink()

    def test_scores_before_a_failure(self):
        """Are kept beside an earlier file."""
        lines = [{"id": "a", "tokens": [1, 2, 3]}, {"id": "b", "tokens": [4, 5]}]
        (self.here / "batch.jsonl").write_text("\n".join(map(json.dumps, lines)))
        path = self.here / "nll.json"
        path.write_text(LEFT)
        with open("/dev/full", "w") as full:  # fails with the first result
            result = run(score(self.here, "--nll", path, prompt=("--batch", "batch.jsonl")),
                         stdout=full)
        self.ends(result, 5)
        self.assertEqual(path.read_text(), LEFT)
        (kept,) = self.here.glob("nll.json.*.partial")
        self.assertIn(kept.name, result.stderr)
        self.assertEqual([json.loads(line)["id"] for line in kept.read_text().splitlines()], ["a"])

    def test_file_size_limit(self):
        """Of the cache, where the space itself could be had."""
        command = prefill(self.here)
        command[command.index("--reserve") + 1] = 2**20
        self.ends(shell('ulimit -f 32768; exec "$@"', command), 5, "new.h5", "ulimit -f")
        self.assertFalse((self.here / "new.h5").exists())
        command = ["export", self.here / "kv.h5", "--out", self.here / "out"]
        self.ends(shell('ulimit -f 1; exec "$@"', command), 5, "out", "ulimit -f")
        self.assertFalse((self.here / "out").exists())

    def test_stale_temporaries(self):
        """Of killed runs go away with the next, those that are in use stay."""
        stale = self.here / ".out.0123456789abcdef.tmp"
        used = self.here / ".out.00123456789abcde.tmp"
        foreign = [self.here / ".out.other.tmp", self.here / ".out2.0123456789abcdef.tmp"]
        for path in (stale, used, *foreign):
            path.write_text("")
        with open(used, "r+b") as file:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
            self.done(["export", self.here / "kv.h5", "--out", self.here / "out"])
        self.assertEqual(sorted(self.here.glob(".out*")), sorted([used, *foreign]))

    def test_reader_goes_away(self):
        result = shell('"$@" | head -c 0; exit ${PIPESTATUS[0]}', decode(self.here))
        self.ends(result, 5, "standard output")
        fifo = self.here / "fifo"
        os.mkfifo(fifo)
        result = shell(f': < {fifo} & exec "$@"', decode(self.here, "--report", fifo))
        self.ends(result, 5, fifo)

    # Standard descriptors.

    def test_closed_descriptors(self):
        """No file of ours gets their numbers, or what is meant for them."""
        loud = [word for word in prefill(self.here, "--report", self.here / "report.json")
                if word != "--quiet"]
        for script in ('exec "$@" 2>&-', 'exec "$@" >&- 2>&-', 'exec "$@" <&- >&- 2>&-'):
            with self.subTest(script=script):
                self.assertEqual(shell(script, loud).returncode, 0)
                self.done(["verify", self.here / "new.h5"])
                self.assertEqual((self.here / "new.h5").read_bytes()[:8], b"\x89HDF\r\n\x1a\n")
                json.loads((self.here / "report.json").read_text())
                code = shell(script, prefill(self.here, tokens="bad.txt")).returncode
                self.assertEqual(code, 3)
        self.assertEqual(shell('exec "$@" >&-', decode(self.here)).returncode, 5)

    def test_full_log(self):
        """Costs the log, not the job; a failure keeps its code."""
        loud = [word for word in prefill(self.here) if word != "--quiet"]
        self.assertEqual(shell('exec "$@" 2>/dev/full', loud).returncode, 0)
        self.done(["verify", self.here / "new.h5"])
        for arguments, code in ((prefill(self.here, tokens="bad.txt"), 3),
                                (decode(self.here, cache="none.h5"), 3), (["prefill"], 2)):
            self.assertEqual(shell('exec "$@" 2>/dev/full', arguments).returncode, code)
        self.assertEqual(shell('exec "$@" >/dev/full', ["--help"]).returncode, 5)


if __name__ == "__main__":
    unittest.main()
