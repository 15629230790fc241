"""A run that is killed at any time loses nothing that was committed, and another goes on with it.

POWERPREFILL_TEST_KILLS says how many kills there are to be, POWERPREFILL_TEST_SEED which ones."""

import collections
import pathlib
import shutil
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.crashes import (  # noqa: E402
    OUT, BrokenRun, CrashChecks, Workshop, count_from, folder_on_disk, look, new_random,
    random_moment)

KILLS = count_from("POWERPREFILL_TEST_KILLS", 10)


class Kills(CrashChecks, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(folder_on_disk())
        cls.workshop = Workshop(cls.folder / "workshop")
        cls.counts = collections.Counter()
        cls.addClassCleanup(lambda: print(dict(sorted(cls.counts.items())), flush=True))

    def kill_once(self, job, tokens, chance):
        """Starts the job and kills it; returns what is committed, or None if it was too fast."""
        ranks = chance.randint(1, 4)
        broken = BrokenRun(job.command(self.here, tokens), ranks)
        kind, moment, seconds, pause = random_moment(chance, job, self.here, job.seconds)
        broken.wait(seconds, moment)
        time.sleep(pause)
        seen = look(self.here / OUT)
        whole = chance.random() < 0.4
        if whole:
            broken.kill([broken.process.pid, *broken.pids])
        else:
            broken.kill([chance.choice(broken.pids)])
        code, errors = broken.end()
        if code == 0:
            self.counts["ended before the kill"] += 1
            return None
        self.assertNotIn("powerprefill: error", errors)
        self.counts["kills"] += 1
        self.counts[f"{job.name}: kills"] += 1
        self.counts[f"kills at a {kind}"] += 1
        self.counts["kills of all processes" if whole else "kills of one rank"] += 1
        if any(p.name.startswith(f".{OUT}.") for p in self.here.iterdir()):
            self.counts["kills that left a temporary file"] += 1
        return self.require_intact(self.here, max(seen, tokens), chance.randint(1, 4))

    def test_kills(self):
        chance = new_random()
        self.here = self.folder / "out"
        self.here.mkdir()
        while self.counts["kills"] < KILLS and self.counts["jobs"] < KILLS + 20:
            job = self.workshop.jobs[self.counts["jobs"] % len(self.workshop.jobs)]
            with self.subTest(job=job.name, number=self.counts["jobs"]):
                self.counts["jobs"] += 1
                job.prepare(self.here)
                tokens = job.base
                for _ in range(chance.randint(1, 5)):
                    after = self.kill_once(job, tokens, chance)
                    if after is None:
                        break
                    tokens = after
                self.require_completion(job, self.here, chance.randint(1, 4))

    def test_temporary_files_of_a_killed_replacement(self):
        """A resume of the file that was to be replaced removes them, though it needs none."""
        self.here = self.folder / "replaced"
        self.here.mkdir()
        job = self.workshop.jobs[0]
        force = ["--force" if word == "--resume" else word for word in job.command(self.here, 0)]
        temporary = lambda: any(p.name.endswith(".tmp") for p in self.here.iterdir())  # noqa: E731
        for _ in range(10):
            job.prepare(self.here)
            shutil.copyfile(self.workshop.folder / job.name / OUT, self.here / OUT)
            broken = BrokenRun(force, 2)
            broken.wait(20, temporary)
            broken.kill([broken.process.pid, *broken.pids])
            broken.end()
            if temporary():
                break
        else:
            self.skipTest("no kill came in time")
        self.require_completion(job, self.here, 2)


if __name__ == "__main__":
    unittest.main()
