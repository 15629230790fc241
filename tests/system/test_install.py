"""The install tree: the program runs from it, and another project builds against it."""

import os
import pathlib
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ["POWERPREFILL"]).resolve().parent


def check(*command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True,
                          timeout=300).stdout


class Install(unittest.TestCase):
    def test_consumer(self):
        with tempfile.TemporaryDirectory() as scratch:
            prefix, tree = pathlib.Path(scratch) / "prefix", pathlib.Path(scratch) / "tree"
            check("cmake", "--install", BUILD, "--prefix", prefix)
            self.assertIn("powerprefill", check(prefix / "bin" / "powerprefill", "version"))
            check("cmake", "-S", ROOT / "tests/system/consumer", "-B", tree, "-G", "Ninja",
                  f"-DCMAKE_PREFIX_PATH={prefix}")
            check("cmake", "--build", tree)
            text = check(tree / "consumer", ROOT / "data/model", pathlib.Path(scratch) / "kv.h5")
            self.assertEqual(text.split()[1], "6")


if __name__ == "__main__":
    unittest.main()
