"""bench/quality: its tasks as text and as ids, and its evaluation of a model, on a random one."""

import csv
import json
import pathlib
import random
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench" / "quality")]
from support.checkpoint import Spec, binary, run  # noqa: E402
from support.model_case import ModelCase  # noqa: E402
import evaluate  # noqa: E402
import task  # noqa: E402

VOCABULARY = task.Vocabulary()
PATTERN = {"pattern": "power", "block": 32, "window": 2, "sink": 1}


class Quality(ModelCase):
    SPEC = Spec(layers=2, heads=2, kv_heads=1, vocabulary=VOCABULARY.size)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        VOCABULARY.write(cls.model)
        config = json.loads((cls.model / "config.json").read_text())
        (cls.model / "config.json").write_text(json.dumps({**config, "power_attention": PATTERN}))
        cls.filler = task.Filler(VOCABULARY, 4000, 1)

    def score(self, *words):
        out = self.folder / "nll.json"
        result = run(["score", "--model", self.model, "--nll", out, "--quiet", *words])
        self.assertEqual(result.code, 0, result)
        return json.loads(out.read_text())

    def test_prompts(self):
        """The program's tokenizer makes the ids of the tasks from their text; answers fit."""
        draw = random.Random(4)
        for name, depths in (("passkey", [0.0]), ("passkey", [0.7]), ("two", [1.0, 0.2]), ("chain", [0.5, 0.5])):
            with self.subTest(task=name, depths=depths):
                prompt = task.make_prompt(VOCABULARY, self.filler, draw, name, 700, depths)
                self.assertTrue(650 < len(prompt.ids) <= 700)
                text = VOCABULARY.decode(prompt.ids)
                ids = self.folder / "ids.txt"
                ids.write_text(" ".join(map(str, prompt.ids)))
                from_text = self.score("--prompt", text)
                from_ids = self.score("--tokens", ids)
                self.assertEqual(from_text["tokens"], len(prompt.ids))
                self.assertEqual(from_text["log_probabilities"], from_ids["log_probabilities"])
                question, answer = text[:-1].rsplit(" ", 1)
                self.assertTrue(question.endswith("pass key is"), question[-40:])
                self.assertRegex(answer, r"^\d{5}$")
                self.assertEqual(VOCABULARY.encode(f" {answer}."), prompt.ids[-prompt.answer:])
                for _, digits, _, known in prompt.needles:
                    before = VOCABULARY.decode(prompt.ids[:known])
                    self.assertTrue(before.endswith("pass key."), before[-40:])
                    if name == "passkey":
                        self.assertIn("".join(map(str, digits)), before)
                        self.assertEqual("".join(map(str, digits)), answer)

    def test_reached(self):
        """A needle over two blocks is in reach when one of them is."""
        config = {"num_hidden_layers": 2, "power_attention": {"pattern": "dilated", "block": 4, "window": 3}}
        for begin, end, expected in ((0, 4, True), (4, 8, False), (3, 6, True), (5, 9, True), (8, 12, True)):
            prompt = task.Prompt([0] * 12, 2, [(0, [], begin, end)])
            self.assertEqual(evaluate.is_reached(prompt, config), expected, (begin, end))
        self.assertFalse(evaluate.is_reached(task.Prompt([0] * 12, 2, [(0, [], 0, 4), (0, [], 4, 8)]), config))

    def test_full_layers(self):
        """Reach and masks are of one pattern: a model that mixes it with full layers is refused."""
        spec = {"pattern": "power", "block": 32, "window": 2, "sink": 1}
        path = self.folder / "config.json"
        path.write_text(json.dumps({"power_attention": spec}))
        self.assertEqual(evaluate.config_of(self.folder)["power_attention"], spec)
        path.write_text(json.dumps({"power_attention": {**spec, "full_layers": [0]}}))
        with self.assertRaisesRegex(SystemExit, "full_layers"):
            evaluate.config_of(self.folder)

    def test_reach(self):
        """What the evaluation calls reached is what the pattern's own analysis says."""
        for pattern in ("power --window 2", "sliding --window 4", "stride --window 3 --stride 16", "longnet"):
            words = pattern.split()
            for layers in (1, 2, 5):
                spec = {"pattern": words[0], "sink": 1, **dict(zip((w[2:] for w in words[1::2]), map(int, words[2::2])))}
                result = run(["pattern", "--attention", *words, "--blocks", 100, "--layers", layers, "--json"])
                (chosen,) = [p for p in json.loads(result.stdout)["patterns"] if p["chosen"]]
                reached = evaluate.reached_blocks(spec, 100, layers)
                self.assertAlmostEqual((reached.sum() - 1) / 99, chosen["covered"][-1], places=9, msg=(pattern, layers))

    def test_evaluation(self):
        """A random model answers nothing; what was measured is not measured again."""
        results = self.folder / "results.csv"
        words = [sys.executable, ROOT / "bench/quality/evaluate.py", "--model", f"random={self.model}", "--lengths",
                 "128,256", "--samples", "2", "--binary", binary(), "--csv", results, "--svg", self.folder / "f.svg"]
        for _ in range(2):
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            with open(results, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            self.assertEqual(len(rows), 2 * len(evaluate.DEPTHS))
            self.assertTrue(all(float(row["right"]) == 0 for row in rows))
            self.assertTrue(all(0 <= float(row["reach"]) <= 1 for row in rows))
            words[words.index("--binary") + 1] = "/nonexistent"
        self.assertIn("random", (self.folder / "f.svg").read_text())

    def test_right_answers(self):
        prompt = task.Prompt([1, 2, 3, 4], 2, [])
        self.assertTrue(evaluate.is_right(prompt, [9, 3, 4]))
        self.assertFalse(evaluate.is_right(prompt, [9, 3, 5]))


if __name__ == "__main__":
    unittest.main()
