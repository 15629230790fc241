"""Single bytes of finished cache files are changed at random: damage is named, and never decoded.

    POWERPREFILL=build/powerprefill /usr/bin/python3 tests/system/test_bit_flips.py

POWERPREFILL_TEST_FLIPS sets the number of changes, POWERPREFILL_TEST_SEED which ones. Every change
that is not met as it should be is named by file, offset and value. Needs numpy and h5py.
"""

import collections
import concurrent.futures
import os
import random
import sys
import threading
import unittest
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.cache_map import CacheMap, structure_seen_by_hdf5  # noqa: E402
from support.checkpoint import Spec, run  # noqa: E402
from support.model_case import ModelCase  # noqa: E402

COUNT = int(os.environ.get("POWERPREFILL_TEST_FLIPS", "60"))
SEED = int(os.environ.get("POWERPREFILL_TEST_SEED", "1"))
BLOCK = 8
PROMPT = 137
MODEL = Spec(layers=2, heads=4, kv_heads=2, head_dim=16)
# Files of few and of many commits: with empty places for records, and with all of them reused.
FILES = {
    "few": "--attention full --save-hidden --chunk-tokens 48",
    "many": "--attention power --window 2 --full-layers 1 --kv-dtype bf16 --chunk-tokens 8",
}
GENERATED = 8
ERROR = "powerprefill: error"
SANITIZER_REPORTS = ("Sanitizer", "runtime error:")


class Case:
    """An undamaged file, what lies where in it, and the tokens that follow it."""

    def __init__(self, path, expected):
        self.path, self.expected = path, expected
        self.map = CacheMap(path)
        self.structure = structure_seen_by_hdf5(path)
        # Bulk is left to the changes that are uniform over the file.
        self.small = {name: pieces for name, pieces in self.map.pieces_by_name().items()
                      if "rows" not in name and name != "zeros of the structure"}


class Change:
    """One byte of a case, and its new value. Half are uniform over the file; the others over the
    regions that are not bulk, then over the bytes of the region."""

    def __init__(self, case, name, number):
        choose = random.Random(f"{SEED} {number}")
        data = case.map.data
        if choose.random() < 0.5:
            self.offset = choose.randrange(len(data))
        else:
            pieces = case.small[choose.choice(sorted(case.small))]
            start, end = choose.choices(pieces, [end - start for start, end in pieces])[0]
            self.offset = choose.randrange(start, end)
        self.old = data[self.offset]
        self.new = choose.choice([value for value in range(256) if value != self.old])
        self.region = case.map.region(self.offset)
        self.case, self.name, self.number = case, name, number

    def __str__(self):
        return (f"change {self.number} of seed {SEED}: file \"{self.name}\", byte {self.offset} "
                f"({self.region.name}) from {self.old:#04x} to {self.new:#04x}")

    def write(self, path):
        data = bytearray(self.case.map.data)
        data[self.offset] = self.new
        path.write_bytes(data)


def problem_of(change, path, verify, decode):
    """What is wrong with how the program met the change, or an empty text."""
    for result in (verify, decode):
        if any(report in result.stderr for report in SANITIZER_REPORTS):
            return f"a sanitizer reports\n{result}"
        if result.code is None or result.code < 0 or result.left:
            return f"crashed or hung\n{result}"
    if verify.code not in (0, 4) or (verify.code == 4 and ERROR not in verify.stderr):
        return f"verify neither passes nor names damage\n{verify}"
    if change.region.damage is not None and change.region.damage != (verify.code == 4):
        return f"damage is {'' if change.region.damage else 'not '}expected\n{verify}"
    if change.region.damage is None and verify.code == 0:
        try:
            seen = structure_seen_by_hdf5(path)
        except (OSError, RuntimeError, KeyError) as error:
            seen = error
        if seen != change.case.structure:
            return f"verify passes, but HDF5 sees another file: {seen}\n{verify}"
    expected, printed = change.case.expected, decode.stdout.split()
    if decode.code == 0 and printed != expected:
        return f"decode prints other tokens than {expected}\n{decode}"
    if decode.code not in (0, 3, 4) or (decode.code != 0 and ERROR not in decode.stderr):
        return f"decode fails in another way\n{decode}"
    # The first token needs no keys: it may be out before damage is met.
    if printed != expected[:len(printed)]:
        return f"decode prints other tokens than {expected}, then fails\n{decode}"
    if verify.code == 0 and decode.code != 0:
        return f"verify passes, but decode fails\n{decode}"
    return ""


class BitFlips(ModelCase):
    SPEC = MODEL

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        tokens = cls.folder / "tokens.npy"
        np.save(tokens, np.random.default_rng(3).integers(0, MODEL.vocabulary, PROMPT, np.int32))
        cls.cases = {}
        for name, options in FILES.items():
            path = cls.folder / f"{name}.h5"
            cls.succeed("prefill", "--model", cls.model, "--tokens", tokens, "--out", path,
                        "--block", BLOCK, "--reserve", 40, "--threads", 1, "--quiet",
                        *options.split())
            for _ in range(2):
                cls.succeed(*cls.decode_of(path), "--append")
            cls.cases[name] = Case(path, cls.succeed(*cls.decode_of(path)).split())
            cls.succeed("verify", path)

    @classmethod
    def decode_of(cls, path):
        return ["decode", path, "--model", cls.model, "--max-new-tokens", GENERATED, "--ids",
                "--threads", 1, "--quiet"]

    @staticmethod
    def succeed(*arguments):
        result = run(arguments, timeout=120)
        if result.code != 0:
            raise AssertionError(str(result))
        return result.stdout

    def test_the_map(self):
        """The regions cover each file once, and every kind of content is there."""
        for name, case in self.cases.items():
            with self.subTest(name):
                end = 0
                for start, next_end, _ in case.map.pieces:
                    self.assertEqual(start, end)
                    end = next_end
                self.assertEqual(end, len(case.map.data))
                self.assertLess(end, 400_000)
                self.assertLessEqual({"rows", "attributes", "checksums", "logits, other slot",
                                      "newest record", "older records", "structure"},
                                     set(case.map.pieces_by_name()))
                self.assertNotEqual(len(set(case.expected)), 1, "tokens that tell nothing")

    def test_flips(self):
        met = collections.defaultdict(collections.Counter)
        problems, lock = [], threading.Lock()

        def meet(number):
            name = list(FILES)[number % len(FILES)]
            change = Change(self.cases[name], name, number)
            path = self.folder / f"changed-{number}.h5"
            change.write(path)
            verify = run(["verify", path], timeout=60)
            decode = run(self.decode_of(path), timeout=60)
            problem = problem_of(change, path, verify, decode)
            path.unlink()
            with lock:
                met[change.region.name]["detected" if verify.code == 4 else "harmless"] += 1
                if problem:
                    problems.append(f"{change}: {problem}")

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(meet, range(COUNT)))
        for region, counts in sorted(met.items()):
            print(f"{region:28} {counts['detected']:5} detected {counts['harmless']:5} harmless")
        self.assertEqual(sum(sum(counts.values()) for counts in met.values()), COUNT)
        if problems:
            self.fail(f"{len(problems)} of {COUNT}:\n" + "\n".join(problems[:20]))


if __name__ == "__main__":
    unittest.main()
