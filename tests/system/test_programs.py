"""The Python programs of this repository: what they say where a module is missing, and short benches."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ["POWERPREFILL"]).resolve().parent
PROGRAMS = sorted(path for room in ("bench", "launch", "tests") for path in (ROOT / room).rglob("*.py")
                  if path.read_text().startswith("#!"))


def run(*words, environment=None):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120,
                          env=environment)


class Programs(unittest.TestCase):
    def test_missing_modules(self):
        """A Python without packages: help, or one line with what is missing and who has it."""
        bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        told = 0
        for path in PROGRAMS:
            with self.subTest(path.name):
                result = run(sys.executable, "-S", path, "--help", environment=bare)
                if result.returncode == 0:
                    self.assertIn("usage: ", result.stdout)
                    continue
                told += 1
                self.assertRegex(result.stderr, rf"^{path.name}: .* has no module \w+.*\b(python3-\w+|pip)\b[^\n]*\n$")
        self.assertGreater(told, 5)

    def test_benches(self):
        """On a model that takes no time: from another folder, on more ranks than cores, without reading the
        lines of a script. (`prefill` times matrix products for longer than a test has.)"""
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as lines:
            lines.write(b"of the script that called it\n")
            lines.seek(0)
            words = ["--shape", "tiny", "--lengths", "600", "--layout", f"{os.cpu_count() + 1}x1", "--runs", "1",
                     "--folder", "jobs", "--build", BUILD]
            for bench in ("scaling", "restore", "decode", "overlap"):
                with self.subTest(bench):
                    result = subprocess.run([sys.executable, ROOT / "bench/jobs.py", bench, *words], cwd=folder,
                                            stdin=lines, capture_output=True, text=True, timeout=300)
                    self.assertEqual(result.returncode, 0, result.stderr)
                    self.assertIn(f"\n{bench},", "\n" + result.stdout)
                    self.assertEqual(lines.seek(0, os.SEEK_CUR), 0, "mpirun has read what was not for it")
            check = run(sys.executable, ROOT / "tests/system/cache_h5py_check.py", pathlib.Path(folder, "jobs/kv.h5"))
            self.assertEqual(check.returncode, 0, check.stderr)


if __name__ == "__main__":
    unittest.main()
