"""`powerprefill pattern`: its table, its JSON and its figures.

    POWERPREFILL=build/powerprefill /usr/bin/python3 tests/system/test_pattern.py [-v] [NAME ...]
"""

import json
import re
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import checkpoint as ck  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"


def run(*arguments, ranks=None):
    """Returns stdout; fails unless the run succeeds."""
    result = ck.run(["pattern", *arguments], ranks)
    if result.code != 0 or result.stderr:
        raise AssertionError(str(result))
    return result.stdout


def facts(*arguments):
    return json.loads(run("--json", *arguments))


def by_name(found):
    return {pattern["pattern"]: pattern for pattern in found["patterns"]}


def attends_longnet(i, j):
    return any((i ^ j) < 8 << k and (i | j) % (1 << k) == 0 for k in range(5))


def unreachable(attends, query):
    seen, todo = {query}, [query]
    while todo:
        i = todo.pop()
        new = {j for j in range(i + 1) if attends(i, j)} - seen
        seen |= new
        todo += new
    return sorted(set(range(query + 1)) - seen)


def mask_cells(path):
    """The (key, query) cells of the figure's mask."""
    root = ElementTree.parse(path).getroot()
    (mask,) = (group for group in root.iter(SVG + "g") if group.get("id") == "mask")
    cells = []
    for element in mask.iter(SVG + "path"):
        cells += re.findall(r"M(\d+) (\d+)h1v1h-1z", element.get("d"))
    return [(int(x), int(y)) for x, y in cells]


class Pattern(unittest.TestCase):
    def test_table(self):
        out = run()
        lines = {line[:28].strip(): line[28:].split() for line in out.splitlines()[2:]}
        self.assertEqual(lines[""], [])
        self.assertIn("power*", out)
        self.assertEqual(lines["keys of the last block"], ["10", "10", "10", "10", "8", "128"])
        self.assertEqual(lines["after 1 layer"][:2], ["7.1%", "7.1%"])
        self.assertEqual(lines["after 6 layers"][0], "100.0%")
        self.assertEqual(lines["layers to see all"][3:], ["never", "never", "1"])
        self.assertEqual(lines["holes: never seen"][:4], ["0", "0", "0", "64"])
        self.assertNotIn("nan", out)

    def test_json_has_the_papers_facts(self):
        found = facts()
        self.assertEqual((found["blocks"], found["layers"], found["ranks"]), (128, 6, 8))
        patterns = by_name(found)
        self.assertEqual(list(patterns), ["power", "sliding", "stride", "dilated", "longnet", "full"])
        self.assertEqual([p["pattern"] for p in found["patterns"] if p["chosen"]], ["power"])
        for pattern in patterns.values():
            self.assertEqual(len(pattern["covered"]), 6)
            self.assertEqual(sum(pattern["contiguous"]["pairs"]), pattern["pairs"])
            self.assertAlmostEqual(pattern["pairs"] / found["causal_pairs"], pattern["density"])
            self.assertAlmostEqual(pattern["sparsity"], 1 - pattern["density"])
            self.assertEqual(pattern["layers_to_cover"] is None, pattern["unreachable"] != [])
        self.assertEqual(patterns["sliding"]["keys_of_last_block"], 10)
        self.assertAlmostEqual(patterns["sliding"]["covered"][0], 9 / 127)
        self.assertEqual(patterns["dilated"]["unreachable"], list(range(0, 127, 2)))
        self.assertEqual(patterns["longnet"]["unreachable"], unreachable(attends_longnet, 127))
        self.assertEqual(patterns["power"]["unreachable"], [])
        self.assertEqual(patterns["full"]["layers_to_cover"], 1)
        self.assertAlmostEqual(patterns["full"]["contiguous"]["max_over_mean"], 1.87, delta=0.01)
        self.assertLess(patterns["full"]["zigzag"]["max_over_mean"], 1.01)

    def test_work_of_ranks(self):
        for blocks, balance in ((64, 1.147), (512, 1.093), (4096, 1.072)):
            power = by_name(facts("--blocks", blocks))["power"]
            self.assertAlmostEqual(power["contiguous"]["max_over_mean"], balance, delta=5e-4)

    def test_chosen_parameters_come_beside_the_papers(self):
        found = facts("--attention", "stride", "--window", 4, "--stride", 16, "--sink", 2,
                      "--blocks", 50, "--layers", 3, "--ranks", 2)
        chosen = found["patterns"][0]
        self.assertEqual((chosen["pattern"], chosen["window"], chosen["stride"], chosen["sink"]),
                         ("stride", 4, 16, 2))
        self.assertTrue(chosen["chosen"])
        self.assertEqual(len(found["patterns"]), 7)
        self.assertEqual(len(chosen["covered"]), 3)
        self.assertEqual(len(chosen["contiguous"]["pairs"]), 2)

    def test_mask_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "distances.txt"
            path.write_text("0 1 3\n")
            chosen = facts("--attention", f"mask:{path}", "--blocks", 20)["patterns"][0]
            self.assertEqual(chosen["pairs"], 20 + 19 + 17)

    def test_figures(self):
        with tempfile.TemporaryDirectory() as folder:
            whole, coverage = Path(folder) / "whole.svg", Path(folder) / "coverage.svg"
            for name in ("power", "longnet", "full"):
                found = by_name(facts("--attention", name, "--svg", whole, "--coverage-svg", coverage))
                cells = mask_cells(whole)
                self.assertEqual(len(cells), found[name]["pairs"])
                self.assertEqual(len(set(cells)), len(cells))
                self.assertTrue(all(0 <= key <= query < 128 for key, query in cells))
                for path in (whole, coverage):
                    root = ElementTree.parse(path).getroot()
                    self.assertTrue(root.find(SVG + "title").text)
                    self.assertTrue(root.find(SVG + "desc").text)
                    curves = [e for e in root.iter(SVG + "path") if e.get("class") == "curve"]
                    self.assertEqual(len(curves), 6)
                    self.assertNotIn("nan", path.read_text())
            self.assertEqual({cell for cell in mask_cells(whole)},
                             {(j, i) for i in range(128) for j in range(i + 1)})

    def test_ends_of_the_range(self):
        for words in (("--blocks", 1), ("--blocks", 3, "--ranks", 9), ("--layers", 1),
                      ("--blocks", 4096, "--layers", 12, "--ranks", 64)):
            with self.subTest(words=words):
                self.assertNotIn("nan", run(*words))

    def test_under_a_launcher_one_rank_prints(self):
        self.assertEqual(run(ranks=2), run())

    def test_refusals(self):
        for words, code in ((("--attention", "nothing"), 2), (("--blocks", 0), 2),
                            (("--blocks", 10**9), 2), (("--layers", 0), 2), (("--ranks", 0), 2),
                            (("--ranks", 10**6), 2), (("--window", 0), 2), (("--sink", -1), 2),
                            (("--attention", "stride", "--stride", 0), 2), (("extra",), 2),
                            (("--attention", "mask:/no/such/file"), 3),
                            (("--svg", "/no/such/folder/f.svg"), 5),
                            (("--coverage-svg", "/no/such/folder/f.svg"), 5)):
            with self.subTest(words=words):
                result = ck.run(["pattern", *words])
                self.assertEqual(result.code, code, str(result))
                self.assertEqual(result.stdout, "")
                self.assertTrue(result.stderr)


if __name__ == "__main__":
    unittest.main()
