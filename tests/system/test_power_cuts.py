"""A power cut at any time loses nothing that was committed: what a disk keeps that stops at once.

The output is on a file system of its own, which is shut down without flushing its journal, then
mounted again. Needs root and loop devices. POWERPREFILL_TEST_CUTS says how many cuts there are to
be, POWERPREFILL_TEST_SEED which ones."""

import collections
import contextlib
import fcntl
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.crashes import (  # noqa: E402
    OUT, BrokenRun, CrashChecks, Workshop, count_from, folder_on_disk, new_random, random_moment)
from support.faults import Faults  # noqa: E402

CUTS = count_from("POWERPREFILL_TEST_CUTS", 3)
SHUTDOWN = 0x8004587D  # _IOR('X', 125, u32): XFS_IOC_GOINGDOWN, EXT4_IOC_SHUTDOWN
WITHOUT_FLUSH = 2
MAKERS = {"ext4": ["mkfs.ext4", "-q"], "xfs": ["mkfs.xfs", "-q"]}


def tell(*command):
    subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)


class Disk:
    """A file system in an image file."""

    def __init__(self, kind, folder):
        self.image, self.folder = folder / f"{kind}.image", folder / kind
        self.folder.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(512 << 20)
        tell(*MAKERS[kind], self.image)
        self.mount()

    def mount(self):
        tell("mount", "-o", "loop", self.image, self.folder)

    def unmount(self):
        for _ in range(50):
            with contextlib.suppress(subprocess.CalledProcessError):
                return tell("umount", self.folder)
            time.sleep(0.1)
        raise AssertionError(f"{self.folder} stays in use")

    def cut(self):
        folder = os.open(self.folder, os.O_RDONLY)
        fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
        os.close(folder)

    def remove(self):
        subprocess.run(["umount", "-l", str(self.folder)], capture_output=True)


class PowerCuts(CrashChecks, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        os.environ["PATH"] += ":/usr/sbin:/sbin"
        if os.geteuid() != 0 or shutil.which("gcc") is None:
            raise unittest.SkipTest("power cuts need root, to mount file systems, and gcc")
        cls.folder = cls.enterClassContext(folder_on_disk())
        cls.disks = []
        for kind, maker in MAKERS.items():
            if shutil.which(maker[0]) is None:
                print(f"no {maker[0]}: no power cuts on {kind}", flush=True)
                continue
            try:
                disk = Disk(kind, cls.folder)
            except subprocess.CalledProcessError as error:
                raise unittest.SkipTest(f"power cuts need loop devices: {error.stderr}") from None
            cls.addClassCleanup(disk.remove)
            cls.disks.append(disk)
        if not cls.disks:
            raise unittest.SkipTest("power cuts need mkfs.ext4 or mkfs.xfs")
        cls.faults = Faults(cls.folder)
        cls.workshop = Workshop(cls.folder / "workshop")
        cls.counts = collections.Counter()
        cls.addClassCleanup(lambda: print(dict(sorted(cls.counts.items())), flush=True))

    def cut_once(self, disk, job, tokens, chance):
        """Starts the job and cuts the power; returns what is committed afterwards, or None if the
        job was done by then."""
        ranks = chance.randint(1, 4)
        with self.faults.log() as log:
            broken = BrokenRun(job.command(disk.folder, tokens), ranks,
                               log.environment(disk.folder))
            kind, moment, seconds, pause = random_moment(chance, job, disk.folder, job.seconds)
            broken.wait(seconds, moment)
            time.sleep(pause)
            done = not broken.runs()
            seen = log.committed()
            disk.cut()
            lives_on = chance.random() < 0.3  # it meets a dead disk
            if not lives_on:
                broken.kill([broken.process.pid, *broken.pids])
            code, errors = broken.end()
        disk.unmount()
        disk.mount()
        self.counts["cuts"] += 1
        self.counts[f"{disk.folder.name}: cuts"] += 1
        self.counts[f"{job.name}: cuts"] += 1
        self.counts[f"cuts at a {kind}"] += 1
        if lives_on and not done and code != 0:
            self.assertEqual(errors.count("powerprefill: error"), 1, errors)
            # Not 5 where HDF5 (4) or the look for a shared folder (6) met it.
            self.assertIn(code, (4, 5, 6), errors)
            self.counts[f"runs that met the dead disk, code {code}"] += 1
        if any(p.name.startswith(f".{OUT}.") for p in disk.folder.iterdir()):
            self.counts["cuts that left a temporary file"] += 1
        self.counts["commits acknowledged before a cut"] += log.commits()
        after = self.require_intact(disk.folder, max(seen, tokens), chance.randint(1, 4))
        self.counts["cuts that kept more than was acknowledged"] += after > max(seen, tokens)
        return None if done else after

    def test_cuts(self):
        chance = new_random()
        while self.counts["cuts"] < CUTS and self.counts["jobs"] < CUTS + 20:
            job = self.workshop.jobs[self.counts["jobs"] % len(self.workshop.jobs)]
            disk = chance.choice(self.disks)
            with self.subTest(job=job.name, disk=disk.folder.name, number=self.counts["jobs"]):
                self.counts["jobs"] += 1
                job.prepare(disk.folder)
                os.sync()
                tokens = job.base
                for _ in range(chance.randint(1, 3)):
                    after = self.cut_once(disk, job, tokens, chance)
                    if after is None:
                        break
                    tokens = after
                self.require_completion(job, disk.folder, chance.randint(1, 4))


if __name__ == "__main__":
    unittest.main()
