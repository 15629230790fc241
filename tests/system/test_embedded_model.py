"""The embedded model in data/: what the quick start shows, at any number of ranks."""

import pathlib
import re
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench" / "quality")]
from support.checkpoint import run  # noqa: E402
import task  # noqa: E402

MODEL, TEXT = ROOT / "data/model", ROOT / "data/prompt.txt"
QUESTION = " " + task.QUESTION.format(c="")
SLIDING = "--attention sliding --block 32 --window 10 --sink 1".split()  # as many blocks as power


class EmbeddedModel(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        self.key = re.search(r"The pass key is (\d{5})\.", TEXT.read_text())[1]

    def passed(self, words, ranks=None):
        result = run(words, ranks=ranks, timeout=120)
        self.assertEqual(result.code, 0, result)
        return result.stdout

    def answer(self, ranks, options=(), text=TEXT):
        cache = self.folder / "kv.h5"
        self.passed(["prefill", "--model", MODEL, "--prompt-file", text, "--out", cache, "--force", "--quiet",
                     *options], ranks)
        return self.passed(["decode", cache, "--model", MODEL, "--prompt", QUESTION, "--max-new-tokens", 7,
                            "--quiet"], min(2, ranks)).strip()

    def test_finds_the_key(self):
        for ranks in (1, 4, 7):
            with self.subTest(ranks=ranks):
                self.assertEqual(self.answer(ranks), f"{self.key}.")

    def test_window_does_not(self):
        """The key is farther away than the window reaches through all layers."""
        self.assertRegex(answer := self.answer(2, SLIDING), r"^\d{5}\.$")
        self.assertNotIn(self.key, answer)

    def test_other_keys(self):
        """Any key, anywhere in a text of any length."""
        text = TEXT.read_text()
        needle = re.search(r" The pass key is \d{5}.*? is the pass key\.", text)[0]
        filler = text.replace(needle, "")
        for share, depth, key in ((0.02, 0.0, "00000"), (0.05, 0.9, "90817"), (0.3, 0.02, "55123")):
            with self.subTest(share=share, depth=depth, key=key):
                end = filler.index(". ", int(share * len(filler))) + 1
                place = filler.index(". ", int(depth * end)) + 1 if depth else 0
                said = " " + task.NEEDLE.format(c="", k=key)
                new = self.folder / "text.txt"
                new.write_text((filler[:place] + said + filler[place:end]).lstrip())
                self.assertEqual(self.answer(3, text=new), f"{key}.")

    def test_size(self):
        self.assertLess(sum(file.stat().st_size for file in MODEL.iterdir()), 10e6)


if __name__ == "__main__":
    unittest.main()
