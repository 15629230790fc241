"""The install tree: the program runs from it, and another project builds against it, or has this one as a part."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support import checkpoint  # noqa: E402

CONSUMER = ROOT / "tests/system/consumer"
BUILD = pathlib.Path(os.environ["POWERPREFILL"]).resolve().parent


def check(*command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True,
                          timeout=300).stdout


class Consumer(unittest.TestCase):
    def test_of_the_install_tree(self):
        with tempfile.TemporaryDirectory() as scratch:
            prefix, tree = pathlib.Path(scratch) / "prefix", pathlib.Path(scratch) / "tree"
            check("cmake", "--install", BUILD, "--prefix", prefix)
            self.assertIn("powerprefill", check(prefix / "bin" / "powerprefill", "version"))
            check("cmake", "-S", CONSUMER, "-B", tree, "-G", "Ninja",
                  f"-DCMAKE_PREFIX_PATH={prefix}")
            check("cmake", "--build", tree)
            for ranks in (None, 2):
                folder = pathlib.Path(scratch) / f"ranks{ranks}"
                folder.mkdir()
                lines = check(*checkpoint.launcher(ranks), tree / "consumer", ROOT / "data/model", folder).splitlines()
                self.assertEqual(len(lines), 4, lines)
                for prompt in (0, 1):
                    cache, exported = folder / f"prompt{prompt}.h5", folder / f"prompt{prompt}.safetensors"
                    program = [prefix / "bin/powerprefill"]
                    text = check(*program, "decode", cache, "--model", ROOT / "data/model", "--max-new-tokens", 8)
                    self.assertIn(f"said:{text.rstrip()}", lines)
                    self.assertIn(f"exported {exported}", lines)
                    check(*program, "export", cache, "--out", folder / "again", "--force")
                    self.assertEqual(exported.read_bytes(), (folder / "again").read_bytes())

    def test_of_the_sources(self):
        """They bring no tests, no files to install and no build type along. The library takes minutes to build, so
        the consumer is compiled and not linked."""
        with tempfile.TemporaryDirectory() as scratch:
            prefix, tree = pathlib.Path(scratch) / "prefix", pathlib.Path(scratch) / "tree"
            check("cmake", "-S", CONSUMER, "-B", tree, "-G", "Ninja", f"-DPOWERPREFILL_SOURCE={ROOT}")
            check("cmake", "--build", tree, "--target", "CMakeFiles/consumer.dir/main.cpp.o")
            self.assertIn("Total Tests: 0", check("ctest", "--test-dir", tree, "-N"))
            targets = check("cmake", "--build", tree, "--target", "help")
            self.assertIn("libpowerprefill.a", targets)
            self.assertNotIn("unit_tests", targets)
            self.assertIn("CMAKE_BUILD_TYPE:STRING=\n", (tree / "CMakeCache.txt").read_text())
            check("cmake", "--install", tree, "--prefix", prefix)
            self.assertFalse(prefix.exists())


if __name__ == "__main__":
    unittest.main()
