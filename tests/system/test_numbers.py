"""Every option that is a number: what is not one, or out of range, is refused by name.

    POWERPREFILL=build/powerprefill /usr/bin/python3 tests/system/test_numbers.py [-v] [NAME ...]
"""

import re
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import checkpoint as ck  # noqa: E402

# What the rest of the command line is; the files are never reached.
COMMANDS = {
    "prefill": ["--model", "none", "--tokens", "none", "--out", "none/kv.h5"],
    "decode": ["none", "--model", "none"],
    "score": ["--model", "none", "--tokens", "none"],
    "plan": ["--model", "none", "--tokens", "1"],
    "pattern": [],
}
# Options by subcommand, with the smallest and the largest number taken.
MOST = 2**31 - 1
PATTERN = {"--window": (1, MOST), "--sink": (0, MOST), "--stride": (1, MOST)}
ATTENTION = {**PATTERN, "--block": (1, 65536), "--full-layers": (0, 9998)}
THREADS = {"--threads": (1, 4096)}
TOKENS = {"--chunk-tokens": (1, 2**36), "--reserve": (0, 2**36)}
REALS = {"--temperature": (0, 10**6), "--top-p": (1, 1)}  # as whole numbers
OPTIONS = {
    "prefill": {**ATTENTION, **THREADS, **TOKENS},
    "decode": {**THREADS, **REALS, "--max-new-tokens": (1, 2**36), "--seed": (0, 2**64 - 1)},
    "score": {**ATTENTION, **THREADS},
    "plan": {**ATTENTION, **THREADS, **TOKENS, "--tokens": (1, 2**36), "--ranks": (1, 2**20), "--nodes": (1, 2**20)},
    "pattern": {**PATTERN, "--blocks": (1, 8192), "--layers": (1, 1024), "--ranks": (1, 256)},
}
NONE = ["", " ", "x", "nan", "inf", "-inf", "0x10", "1 2", "5x", "1e400", "1e999999999"]
NO_WHOLE = ["1.5", "1e3", "1.0", "+1"]
ALWAYS_BEYOND = [-1, 2**64, 99999999999999999999, -(2**63), -(2**63) - 1]


def run(*words):
    done = subprocess.run([str(ck.binary()), *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60)
    return done.returncode, done.stderr


def command(name, option, value):
    rest = list(COMMANDS[name])
    if option in rest:
        at = rest.index(option)
        del rest[at:at + 2]
    return [name, *rest, f"{option}={value}"]


class Numbers(unittest.TestCase):
    def check(self, trials):
        """Of (subcommand, option, value): each is refused with code 2, naming the option."""
        with ThreadPoolExecutor(3) as pool:
            results = list(pool.map(lambda trial: run(*command(*trial)), trials))
        for trial, (code, message) in zip(trials, results):
            with self.subTest(trial=trial):
                self.assertEqual(code, 2, message)
                self.assertIn(trial[1], message)
                self.assertIn(" to ", message)  # the range

    def test_what_is_no_number_in_range(self):
        trials = []
        for name, options in OPTIONS.items():
            for option, (least, largest) in options.items():
                words = NONE + ([] if option in REALS else NO_WHOLE)
                numbers = {least - 1, largest + 1, 2**63, 2**64 - 1, *ALWAYS_BEYOND}
                words += [number for number in sorted(numbers) if not least <= number <= largest]
                if option == "--full-layers":
                    words += ["0,-1", "0,1.5", "0,99999999999999999999"]
                trials += [(name, option, word) for word in words]
        # All words for one option of a kind; of the others some each.
        self.check([trial for i, trial in enumerate(trials) if trial[1] in ("--block", "--seed", "--top-p") or i % 3 == 0])

    def test_the_table_is_complete(self):
        """An option whose help shows a number, or whose value is one, stands in the table."""
        for name in ("prefill", "decode", "score", "plan", "pattern", "doctor", "inspect", "verify", "export"):
            code, _ = run(name, "--help")
            self.assertEqual(code, 0)
            text = subprocess.run([str(ck.binary()), name, "--help"], capture_output=True, text=True).stdout
            shown = set(re.findall(r"^\s+(--[a-z-]+) (?:INT|UINT|FLOAT)", text, re.M))
            self.assertEqual(shown, set(OPTIONS.get(name, {})), name)
            for option, (least, largest) in OPTIONS.get(name, {}).items():
                line = re.search(rf"^\s+{option} (.*)$", text, re.M).group(1)
                self.assertIn(f" to {largest}" if largest < 10**6 or option not in REALS else " to 1", line)

    def test_the_ends_of_the_ranges_are_taken(self):
        """Further than the command line: to the model or cache that is not there."""
        for name, options in OPTIONS.items():
            if name == "pattern":
                continue
            for end in (0, 1):
                words = [f"{option}={ends[end]}" for option, ends in options.items() if option != "--tokens"]
                code, message = run(name, *COMMANDS[name], *words)
                self.assertIn(code, (3, 4), message)
                self.assertIn("none", message)

    def test_a_pattern_takes_any_number_in_range(self):
        for name in ("power", "sliding", "stride", "dilated"):
            code, message = run("pattern", "--attention", name, "--window", MOST, "--sink", MOST, "--stride", MOST,
                                "--blocks", 300)
            self.assertEqual((code, message), (0, ""), name)
        for window, stride in ((1, MOST), (MOST, 1), (1, 1)):
            code, message = run("pattern", "--attention", "stride", "--window", window, "--stride", stride, "--blocks", 300)
            self.assertEqual((code, message), (0, ""))

    def test_leading_zeros_are_decimal(self):
        text = subprocess.run([str(ck.binary()), "pattern", "--blocks", "010", "--json"], capture_output=True, text=True)
        self.assertIn('"blocks": 10,', text.stdout)

    def test_masks_and_shares(self):
        with tempfile.TemporaryDirectory() as folder:
            model = ck.write_checkpoint(Path(folder) / "model")
            mask = Path(folder) / "mask"
            mask.write_text(f"0 1 {MOST}")
            plan = ["plan", "--model", model, "--tokens", 100000]
            self.assertEqual(run(*plan, "--attention", f"mask:{mask}")[0], 0)
            for text in ("0 1 2147483648", "0 18446744073709551615", "0 -1", "1 2", "0 2 2"):
                mask.write_text(text)
                self.assertIn(run(*plan, "--attention", f"mask:{mask}")[0], (2, 3), text)
            for share in ("2", "2/", "/7", "2/0", "8/7", "-1/7", "1.5/7", "2/7x", " 2/7", "2/99999999999999999999"):
                code, message = run(*plan, "--full-per", share)
                self.assertEqual(code, 2, share)
                self.assertIn("--full-per", message)


if __name__ == "__main__":
    unittest.main()
