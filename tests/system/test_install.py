"""The install tree: the program runs from it, and another project builds against it, or has this one as a part."""

import os
import pathlib
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
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
            text = check(tree / "consumer", ROOT / "data/model", pathlib.Path(scratch) / "kv.h5")
            self.assertEqual(text.split()[1], "6")

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
