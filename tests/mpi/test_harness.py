"""A failure on one rank fails the job, and nothing else does: runs the tests of mpi_harness.cpp."""

import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.checkpoint import launcher  # noqa: E402

PROGRAM = os.environ["POWERPREFILL_MPI_HARNESS"]
RANKS = 3


def run(tests, *before):
    return subprocess.run([*launcher(RANKS), *before, PROGRAM, f"--gtest_filter={tests}"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)


def exit_codes(tests):
    """Of all ranks: mpirun tells of the first that is not 0."""
    result = run(tests, "sh", "-c", '"$@"; echo "exit code $?"', "sh")
    return [int(code) for code in re.findall(r"exit code (\d+)", result.stdout)]


class Harness(unittest.TestCase):
    def test_passes(self):
        result = run("Passes.*:Skips.*")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("1 passed, 0 failed, 1 skipped on 3 ranks", result.stdout)
        self.assertEqual(result.stdout.count("[ RUN "), 2, "one rank prints")
        self.assertEqual(exit_codes("Passes.*"), [0] * RANKS)

    def test_every_failure_counts(self):
        result = run("Passes.*:Fails.*")
        self.assertNotEqual(result.returncode, 0)
        begun = re.findall(r"^\[ RUN      \] (Fails\.\w+)$", result.stdout, re.M)
        failed = re.findall(r"^\[  FAILED  \] (\w+\.\w+)$", result.stdout, re.M)
        self.assertGreater(len(begun), 10)
        self.assertEqual(failed, begun)
        self.assertIn(f"1 passed, {len(begun)} failed, 0 skipped on 3 ranks", result.stdout)

    def test_failure_of_one_rank(self):
        for test in ("Fails.CheckOfRank1", "Fails.CheckOfAThreadOfRank1"):
            with self.subTest(test):
                result = run(test)
                self.assertNotEqual(result.returncode, 0)
                self.assertIn("it failed on rank 1 of 3", result.stdout)
                self.assertIn("0 passed, 1 failed", result.stdout)
                told = [line for line in result.stderr.splitlines() if line.startswith("FAILED")]
                self.assertEqual(len(told), 1, result.stderr)
                self.assertRegex(told[0], rf"^FAILED on rank 1 of 3: {test}: .*mpi_harness.cpp:\d+$")
                self.assertEqual(exit_codes(test), [1] * RANKS)

    def test_exception_ends_the_job(self):
        for test, what in (("OnRank1", "thrown by one rank"), ("AnInt", "an exception of an unknown type")):
            with self.subTest(test):
                result = run(f"Throws.{test}")
                self.assertEqual(result.returncode, 1)
                self.assertIn(f"FAILED Throws.{test} on rank 1 of 3: {what}", result.stderr)
                self.assertNotIn(" passed, ", result.stdout)

    def test_nothing_has_run(self):
        for tests in ("None.*", "Skips.*"):
            with self.subTest(tests):
                result = run(tests)
                self.assertNotEqual(result.returncode, 0)
                self.assertIn("no test has run", result.stderr)
                self.assertEqual(exit_codes(tests), [1] * RANKS)


if __name__ == "__main__":
    unittest.main()
