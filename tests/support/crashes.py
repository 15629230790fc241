"""Jobs that a test breaks off at any time and goes on with, and what must hold in between."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import h5py
import numpy as np

from support.cache import committed, newest_record
from support.checkpoint import Spec, processes_of, run, start, write_checkpoint

OUT = "kv.h5"
BLOCK = 16
MODEL = Spec(layers=4, heads=6, kv_heads=3)
PREFILL = ["--block", BLOCK, "--attention", "power", "--window", 2, "--full-layers", 1,
           "--save-hidden", "--chunk-tokens", BLOCK, "--reserve", 0]
TOKENS = BLOCK * 40 + 5  # of the prompt
FIRST = BLOCK * 9 + 3    # of the file that growth and append begin with
COMMON = BLOCK * 20      # with the prompt of the file that lends its prefix
GENERATED = 150          # by append, which commits every 64 of them
SHARED_MEMORY = Path("/dev/shm")


def count_from(variable, short):
    """How many disturbances to make: the environment variable, else the short form."""
    return int(os.environ.get(variable, short))


def new_random():
    """Its seed is POWERPREFILL_TEST_SEED, or drawn and printed."""
    seed = int(os.environ.get("POWERPREFILL_TEST_SEED", random.SystemRandom().randrange(10**6)))
    print(f"POWERPREFILL_TEST_SEED={seed}", flush=True)
    return random.Random(seed)


def look(path):
    """The tokens that an independent reader sees to be committed; 0 without a file or a commit."""
    try:
        with h5py.File(path, "r") as file:
            record = newest_record(file)
            return 0 if record is None else record[1]
    except (OSError, KeyError):
        return 0


def names_left(folder):
    """Names of temporary files: of outputs in the folder, and of this program in shared memory,
    where those of runs beside this test come and go."""
    shared = lambda: {p.name for p in SHARED_MEMORY.glob("powerprefill*")}  # noqa: E731
    left, deadline = shared(), time.monotonic() + 2
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left &= shared()
    return sorted(p.name for p in folder.iterdir() if p.name.startswith(".")) + sorted(left)


class Job:
    """A way to make the output. Its command goes on from whatever is committed."""

    def __init__(self, name, workshop, begin=None, lends=False):
        self.name, self.workshop = name, workshop
        self.begin, self.lends = begin, lends  # the file it starts from; whether it copies a prefix
        self.base = look(begin) if begin else 0
        self.expected = None
        self.seconds = 0  # that an undisturbed run takes once its ranks are there

    def prepare(self, folder):
        """The state before the first run, with `folder` empty but for it."""
        for path in folder.iterdir():
            if path.name.startswith((".kv", "kv", "lender")):
                path.unlink()
        if self.begin:
            shutil.copyfile(self.begin, folder / OUT)
        if self.lends:
            shutil.copyfile(self.workshop.lender, folder / "lender.h5")

    def command(self, folder, tokens):
        common = ["--model", self.workshop.model, "--threads", 1, "--quiet"]
        if self.name == "append":
            more = ["--tokens", self.workshop.file_of(tokens)] if tokens < TOKENS else []
            new = TOKENS + GENERATED - max(tokens, TOKENS)
            return ["decode", folder / OUT, *common, "--append", "--max-new-tokens", new, *more]
        prefix = ["--prefix", folder / "lender.h5"] if self.lends else []
        return ["prefill", *common, *PREFILL, "--tokens", self.workshop.file_of(0),
                "--out", folder / OUT, "--resume", *prefix]


class Workshop:
    """The model, the prompt and the jobs, in a folder of their own."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.model = write_checkpoint(self.folder / "model", MODEL)
        self.ids = np.random.default_rng(5).integers(0, MODEL.vocabulary, TOKENS).astype(np.int32)
        other = self.ids.copy()
        other[COMMON + 3:] = (other[COMMON + 3:] + 1) % MODEL.vocabulary
        self.lender = self.prefill(other, "lender.h5")
        first = self.prefill(self.ids[:FIRST], "first.h5")
        self.jobs = [Job("prefill", self), Job("growth", self, first),
                     Job("prefix", self, lends=True), Job("append", self, first)]
        for job in self.jobs:
            here = self.folder / job.name
            here.mkdir()
            job.prepare(here)
            disturbed = BrokenRun(job.command(here, job.base), 2)
            disturbed.wait(60)
            code, errors = disturbed.end()
            assert code == 0, errors
            job.seconds = disturbed.seconds
            job.expected = committed(here / OUT)

    def file_of(self, begin):
        """The prompt from a token on."""
        path = self.folder / f"from-{begin}.npy"
        if not path.exists():
            np.save(path, self.ids[begin:])
        return path

    def prefill(self, ids, name):
        np.save(self.folder / "ids.npy", ids)
        result = run(["prefill", "--model", self.model, *PREFILL, "--threads", 1, "--quiet",
                      "--tokens", self.folder / "ids.npy", "--out", self.folder / name], ranks=2)
        assert result.code == 0, result
        return self.folder / name


class BrokenRun:
    """A run in the background, which has started all its ranks."""

    def __init__(self, arguments, ranks, environment=None):
        self.job = uuid.uuid4().hex
        self.process = start(arguments, ranks, self.job, environment)
        self.pids = []
        while len(self.pids) < ranks and self.process.poll() is None:
            self.pids = processes_of(self.job)
        self.begin = time.monotonic()
        self.seconds = 0

    def runs(self):
        return self.process.poll() is None

    def wait(self, seconds, moment=lambda: False):
        """Until the moment has come, the time is over or the run has ended."""
        deadline = time.monotonic() + seconds
        while self.runs() and time.monotonic() < deadline and not moment():
            time.sleep(0.001)
        self.seconds = time.monotonic() - self.begin

    def kill(self, pids):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def end(self, patience=30):
        """Its exit code and messages. Whatever is left of it then is an error."""
        try:
            _, errors = self.process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            left = processes_of(self.job)
            self.kill([*left, self.process.pid])
            _, errors = self.process.communicate()
            raise AssertionError(f"the job hung; ranks {left} were left\n{errors}") from None
        deadline = time.monotonic() + 10
        while left := processes_of(self.job):
            if time.monotonic() > deadline:
                self.kill(left)
                raise AssertionError(f"ranks {left} outlived their launcher\n{errors}")
            time.sleep(0.02)
        return self.process.returncode, errors


def random_moment(chance, job, folder, seconds):
    """(description, moment, seconds to wait for it, pause after it): when to break a run off."""
    kinds = ["time", "commit", "temporary"]
    weights = [4, 4, 1] if job.name == "prefill" else [2, 2, 3]
    kind = chance.choices(kinds, weights)[0]
    if kind == "time":
        return kind, lambda: False, chance.uniform(0, seconds), 0
    pause = chance.uniform(0, 0.015)
    if kind == "commit":
        goal = chance.randint(job.base + 1, TOKENS)
        return kind, lambda: look(folder / OUT) >= goal, 2 * seconds, pause
    names = lambda: any(name.startswith(f".{OUT}.") for name in os.listdir(folder))  # noqa: E731
    return kind, names, 2 * seconds, pause


class CrashChecks:
    """What a TestCase asks of an output after a crash."""

    def require_intact(self, folder, seen, ranks):
        """Returns the committed tokens: no fewer than `seen`, and sound."""
        if not (folder / OUT).exists():
            self.assertEqual(seen, 0, "the output is lost")
            return 0
        result = run(["inspect", "--json", folder / OUT])
        if result.code == 4 and "has no commit" in result.stderr:
            self.assertEqual(seen, 0, result)
            return 0
        self.assertEqual(result.code, 0, result)
        tokens = json.loads(result.stdout)["tokens"]
        self.assertGreaterEqual(tokens, seen, "commits are lost")
        result = run(["verify", folder / OUT], ranks=ranks)
        self.assertEqual(result.code, 0, result)
        return tokens

    def require_completion(self, job, folder, ranks):
        """Goes on undisturbed, and leaves what a run that was never disturbed leaves."""
        tokens = look(folder / OUT) or job.base
        if job.name != "append" or tokens < TOKENS + GENERATED:
            result = run(job.command(folder, tokens), ranks=ranks, timeout=120)
            self.assertEqual((result.code, result.left), (0, []), result)
        self.assertEqual(committed(folder / OUT), job.expected)
        self.assertEqual(names_left(folder), [])


@contextlib.contextmanager
def folder_on_disk():
    """A folder that is not in memory, beside one in memory for what runs share and, killed, cannot remove."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        with tempfile.TemporaryDirectory(dir=SHARED_MEMORY, prefix="test-") as memory:
            old = dict(os.environ)
            os.environ.update(TMPDIR=memory)  # see launch/local-mpirun
            try:
                yield Path(scratch)
            finally:
                os.environ.clear()
                os.environ.update(old)
