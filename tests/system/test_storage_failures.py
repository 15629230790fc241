"""Storage that fails: one code, one message, nothing lost, and the run can be gone on with.

Calls are made to fail by a small preloaded library. POWERPREFILL_TEST_FAULTS says how many,
POWERPREFILL_TEST_SEED which ones."""

import collections
import fcntl
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.checkpoint import binary, launch, run  # noqa: E402
from support.crashes import (  # noqa: E402
    OUT, BrokenRun, CrashChecks, Workshop, count_from, folder_on_disk, look, names_left, new_random)
from support.faults import Faults  # noqa: E402

FAULTS = count_from("POWERPREFILL_TEST_FAULTS", 6)
RANKS = 3


class StorageFailures(CrashChecks, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        os.environ["PATH"] += ":/usr/sbin:/sbin"
        cls.folder = cls.enterClassContext(folder_on_disk())
        cls.workshop = Workshop(cls.folder / "workshop")
        cls.jobs = {job.name: job for job in cls.workshop.jobs}
        cls.counts = collections.Counter()
        cls.addClassCleanup(lambda: print(dict(sorted(cls.counts.items())), flush=True))

    def setUp(self):
        self.here = pathlib.Path(tempfile.mkdtemp(dir=self.folder, prefix="out-"))

    def require_failure(self, result, text="", code=5):
        self.assertEqual((result.code, result.left), (code, []), result)
        self.assertEqual(result.stderr.count("powerprefill: error"), 1, result)
        self.assertIn(text, result.stderr)

    def need_root(self, *programs):
        if os.geteuid() != 0 or not all(shutil.which(program) for program in programs):
            self.skipTest(f"needs root, {', '.join(programs)}")

    def mount(self, *options):
        """Mounts something at self.here, for this test."""
        self.need_root("mount")
        done = subprocess.run(["mount", *options, self.here], capture_output=True, text=True)
        if done.returncode != 0:
            self.skipTest(f"cannot mount here: {done.stderr}")
        self.addCleanup(subprocess.run, ["umount", "-l", self.here])

    # Calls that fail.

    def calls_of(self, faults, job):
        """What an undisturbed run of the job does to its files."""
        job.prepare(self.here)
        with faults.log() as log:
            result = run(job.command(self.here, job.base), RANKS,
                         environment=log.environment(self.here))
            self.assertEqual(result.code, 0, result)
            return log.calls()

    def fail_once(self, faults, job, call, error, sticky, chance):
        job.prepare(self.here)
        with faults.log() as log:
            environment = {**log.environment(self.here), **call.fault(error, sticky)}
            result = run(job.command(self.here, job.base), RANKS, environment=environment)
            acknowledged = max(job.base, log.committed())
        self.require_failure(result)
        self.assertEqual(names_left(self.here), [], result)
        self.require_intact(self.here, acknowledged, chance.randint(1, 4))
        self.require_completion(job, self.here, chance.randint(1, 4))

    def test_calls_that_fail(self):
        """In every phase, every kind of call, on some rank."""
        if shutil.which("gcc") is None:
            self.skipTest("needs gcc")
        faults, chance, kinds = Faults(self.folder), new_random(), {}
        for job in self.workshop.jobs:
            for call in self.calls_of(faults, job):
                kinds.setdefault((job.name, call.phase, call.name, call.rank == 0), []).append(call)
        names = sorted(kinds)
        chance.shuffle(names)
        self.counts["kinds of calls"] = len(names)
        for number in range(FAULTS):
            kind = names[number % len(names)]
            call, error = chance.choice(kinds[kind]), chance.choice(["ENOSPC", "EIO"])
            sticky = chance.random() < 0.3
            with self.subTest(number=number, job=kind[0], call=call, error=error, sticky=sticky):
                self.counts["faults"] += 1
                self.counts[f"{kind[0]}: {call.phase}: {call.name}"] += 1
                self.fail_once(faults, self.jobs[kind[0]], call, error, sticky, chance)

    # A full disk.

    def test_full_at_set_up(self):
        self.mount("-t", "tmpfs", "-o", "size=256k", "none")
        job, codes = self.jobs["prefill"], self.folder / "codes"
        command = launch(job.command(self.here, 0), RANKS)
        # Every rank writes down its code; mpirun would end those that are late.
        at = command.index(str(binary()))
        script = f'trap "" TERM; "$@"; code=$?; echo $code >> {codes}; exit $code'
        command[at:at] = ["sh", "-c", script, "sh"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 5, result)
        self.assertEqual(codes.read_text().split(), ["5"] * RANKS)
        self.assertEqual(result.stderr.count("powerprefill: error"), 1, result)
        self.assertIn("free space there, or choose another output", result.stderr)
        self.assertEqual(list(self.here.iterdir()), [])

    def test_full_at_growth(self):
        job = self.jobs["growth"]
        size = job.begin.stat().st_size // 1024 + 64
        self.mount("-t", "tmpfs", "-o", f"size={size}k", "none")
        job.prepare(self.here)
        before = (self.here / OUT).read_bytes()
        for other in (job, self.jobs["append"]):
            self.require_failure(run(other.command(self.here, job.base), RANKS), "free space there")
            self.assertEqual([p.name for p in self.here.iterdir()], [OUT])
            self.assertEqual((self.here / OUT).read_bytes(), before)

    # Files and folders that cannot be used.

    def test_missing_folder(self):
        job = self.jobs["prefill"]
        result = run(job.command(self.here / "nowhere", 0), RANKS)
        self.require_failure(result, "does not exist; make it first")

    def test_read_only_file_system(self):
        job = self.jobs["growth"]
        job.prepare(self.here)
        self.mount("--bind", str(self.here))
        if subprocess.run(["mount", "-o", "remount,bind,ro", self.here]).returncode != 0:
            self.skipTest("cannot mount read-only here")
        for name in ("growth", "append"):
            result = run(self.jobs[name].command(self.here, job.base), RANKS)
            self.require_failure(result, "Read-only")
        (path,) = self.here.iterdir()
        self.assertEqual(path.name, OUT)
        empty = self.jobs["prefill"].command(self.here, 0)
        empty[empty.index(self.here / OUT)] = self.here / "new.h5"
        self.require_failure(run(empty, RANKS), "Read-only")

    def test_immutable_file_and_folder(self):
        self.need_root("chattr")
        job = self.jobs["append"]
        job.prepare(self.here)
        for path, name in ((self.here / OUT, "append"), (self.here / OUT, "growth"),
                           (self.here, "growth")):
            with self.subTest(path=path, job=name):
                if subprocess.run(["chattr", "+i", path], capture_output=True).returncode != 0:
                    self.skipTest("no immutable files here")
                try:
                    result = run(self.jobs[name].command(self.here, job.base), RANKS)
                finally:
                    subprocess.run(["chattr", "-i", path], check=True)
                self.require_failure(result, "Operation not permitted")
                self.assertEqual(names_left(self.here), [])
        self.require_completion(job, self.here, RANKS)

    def test_locked(self):
        for name in ("growth", "append"):
            job = self.jobs[name]
            job.prepare(self.here)
            lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
            with open(self.here / OUT, "r+b") as file:
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
                result = run(job.command(self.here, job.base), RANKS)
            self.require_failure(result, "in use by another writer", code=4)
            self.require_completion(job, self.here, RANKS)

    # An output that goes away.

    def disturb(self, job, act, goal):
        """Acts on the output once so many tokens are committed to it; returns code and messages."""
        job.prepare(self.here)
        broken = BrokenRun(job.command(self.here, job.base), RANKS)
        broken.wait(60, lambda: look(self.here / OUT) >= goal)
        self.assertTrue(broken.runs())
        act()
        return broken.end()

    def test_deleted_or_replaced(self):
        path, aside = self.here / OUT, self.folder / "aside.h5"

        def replace_by(source):
            shutil.copyfile(source, aside)
            os.rename(aside, path)

        acts = {"delete": path.unlink, "replace by a copy": lambda: replace_by(path),
                "replace by a shorter cache": lambda: replace_by(self.jobs["growth"].begin),
                "replace by something else": lambda: replace_by(__file__)}
        for number in range(1 if FAULTS < 100 else 10):
            for name, act in acts.items():
                with self.subTest(act=name, number=number):
                    code, errors = self.disturb(self.jobs["prefill"], act, 50 + 20 * number)
                    self.counts[f"{name}: code {code}"] += 1
                    self.assertEqual((code, errors.count("powerprefill: error")), (5, 1), errors)
                    self.assertIn("was deleted or replaced while it was being written", errors)
                    self.assertEqual(names_left(self.here), [])


if __name__ == "__main__":
    unittest.main()
