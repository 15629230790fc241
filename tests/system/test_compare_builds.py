"""The tool that compares two builds: it passes the same build twice, and finds one that differs in a bit."""

import contextlib
import io
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import h5py
import numpy as np

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
import compare_builds  # noqa: E402
from support.cache import newest_record  # noqa: E402
from support.checkpoint import binary  # noqa: E402

# Of a wrapper: the words of the command are in "$@", and $1 is the subcommand.
NUMBER_PLUS_ONE = """
for word; do shift; [ "$before" != {option} ] || word=$((word + 1)); before=$word; set -- "$@" "$word"; done
exec {binary} "$@"
"""
OTHER_CODE = """
{binary} "$@" || exit 5
"""
FLIPPED = """
{binary} "$@" || exit $?
case $1 in prefill) exec {python} -c "import sys; sys.path.insert(0, '{tests}')
import compare_builds; compare_builds.flip('kv.h5', '{dataset}', row=204)" ;; esac
"""


def setUpModule():
    global folder
    scratch = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(scratch.cleanup)
    folder = pathlib.Path(scratch.name)


def compare(after, only, *options):
    result = subprocess.run([sys.executable, TESTS / "compare_builds.py", binary(), after, "--only", only, *options],
                            capture_output=True, text=True, timeout=200)
    return result.returncode, result.stdout + result.stderr


def wrapper(text, **values):
    path = folder / f"wrapper{len(list(folder.glob('wrapper*')))}"
    path.write_text("#!/bin/sh" + text.format(binary=f"'{binary()}'", python=sys.executable, tests=TESTS, **values))
    path.chmod(0o755)
    return path


class CompareBuilds(unittest.TestCase):
    def test_the_same_build(self):
        only = "qwen3 f32|resume: from|score: batch|half of a file|inspect, verify"
        code, text = compare(binary(), only)
        self.assertEqual(code, 0, text)
        self.assertIn("5 settings: 5 same, 0 different, 0 not as meant; 0 with other findings", text)

    def test_a_build_that_differs(self):
        for name, only, after, found in (
                ("another window", "pattern: sliding f32", wrapper(NUMBER_PLUS_ONE, option="--window"),
                 ("attribute schedule", "kv.h5 hidden_all: ")),
                ("another seed", "decode: drawn$", wrapper(NUMBER_PLUS_ONE, option="--seed"),
                 ("step 2 (- decode): printed",)),
                ("another code", "no such model", wrapper(OTHER_CODE), ("exit code: 3 -> 5",)),
                ("a bit of a value", "decode: drawn in bf16", wrapper(FLIPPED, dataset="layers/0001/value"),
                 ("step 1 (- prefill): kv.h5 layers/0001/value: 1 of 205 rows, first 204",))):
            with self.subTest(name):
                code, text = compare(after, only)
                self.assertEqual(code, 1, text)
                self.assertIn("1 settings: 0 same, 1 different", text)
                for part in ("DIFFERENT: step", *found):
                    self.assertIn(part, text)

    def test_scores_that_differ(self):
        pair = [folder / name for name in ("before.json", "after.json")]
        line = '{{"tokens":3,"wall_s":{},"log_probabilities":[-1.5,{}],"best":[2,{}]}}\n'
        for seconds, score, best, keys in ((2, -2.5, 4, []), (1, -2.500000001, 4, ["log_probabilities"]),
                                           (1, -2.5, 5, ["best"])):
            pair[0].write_text(line.format(1, -2.5, 4))
            pair[1].write_text(line.format(seconds, score, best))
            findings = compare_builds.Findings()
            compare_builds.compare_lines(*pair, findings, "nll.json")
            self.assertEqual([text.split(":")[0] for text in findings.different],
                             [f"nll.json line 1 {key}" for key in keys])

    def test_a_setting_that_fails_in_both_builds(self):
        broken = wrapper("\nexit 3\n")
        setting = ("length", "none", "small", ("- prefill --tokens [0:16]",))
        with tempfile.TemporaryDirectory(dir=folder) as work:
            with contextlib.redirect_stdout(io.StringIO()) as said:
                code = compare_builds.compare_all([setting], [broken, broken], pathlib.Path(work), 1)
        self.assertEqual(code, 2)
        self.assertIn("NOT AS MEANT: step 1 (- prefill): ", said.getvalue())
        self.assertEqual(compare(binary(), "no setting has this name")[0], 2)

    def test_every_dataset(self):
        """A bit of a committed row of any dataset, or of its commit, is found; one beyond the commit is not."""
        path, other = folder / "kv.h5", folder / "other.h5"
        inputs = compare_builds.Inputs(folder / "inputs")
        step = "- prefill --tokens [0:203] --block 16 --compute bf16 --save-hidden --force"
        command = compare_builds.parse(step, "small", inputs)
        self.assertEqual(command.run(binary(), folder)[0], 0)
        with h5py.File(path) as file:
            _, tokens, values, sums = newest_record(file)
            self.assertEqual(tokens, 203)
            slots = {"logits": values, "hidden": values, "checksums": sums, "hidden_checksums": sums, "commit": 1}
            names = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        self.assertGreater(len(names), 12)
        for name in names:
            slot = slots.get(name)
            # Of tables of checksums the middle of a slot lies beyond the commit, and its first entry does not.
            for row, is_found in ((202, True), (203, False)) if slot is None else ((slot, True),):
                with self.subTest(name, row=row):
                    shutil.copy(path, other)
                    if name.endswith("checksums"):
                        with h5py.File(other, "r+") as file:
                            file[name][(slot, *[0] * (file[name].ndim - 1))] ^= np.uint64(1)
                    else:
                        compare_builds.flip(other, name, row)
                    findings = compare_builds.Findings()
                    compare_builds.compare_caches(path, other, findings)
                    if is_found and name != "commit":
                        self.assertEqual([text.split(":")[0] for text in findings.different], [f"cache {name}"])
                    else:
                        self.assertEqual(bool(findings.different), is_found, findings.different)

    def test_every_attribute(self):
        path, other = folder / "kv.h5", folder / "other.h5"
        inputs = compare_builds.Inputs(folder / "attributes")
        command = compare_builds.parse("- prefill --tokens [0:40] --force", "small", inputs)
        self.assertEqual(command.run(binary(), folder)[0], 0)
        with h5py.File(path) as file:
            names = sorted(set(file.attrs) - {"capacity", "block_tokens"})  # without which nothing else can be read
        for name in names:
            with self.subTest(name):
                shutil.copy(path, other)
                with h5py.File(other, "r+") as file:
                    value = file.attrs[name]
                    if isinstance(value, bytes):
                        kind = file.attrs.get_id(name).dtype
                        file.attrs.create(name, b"?" + value[1:], dtype=kind)
                    else:
                        file.attrs.modify(name, value + type(value)(1))
                findings = compare_builds.Findings()
                compare_builds.compare_caches(path, other, findings)
                found = [[text.split(":")[0] for text in texts] for texts in (findings.different, findings.also)]
                said = [f"cache attribute {name}"]
                expected = {"generation": [[], []], "writer": [[], said], "numerics": [[], said]}
                self.assertEqual(found, expected.get(name, [said, []]))


if __name__ == "__main__":
    unittest.main()
