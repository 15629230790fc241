#!/usr/bin/env python3
"""Token ids and texts of small folders of tokenizers against those of transformers 5 (folders.json).

    compare_folders.py --program tokenizer_ids
"""

import argparse
import json
import subprocess
import sys
import tempfile

from folders import CASES, HERE, TEXTS


def answers(program, folder, recorded):
    lines = [{"text": text} for text in TEXTS] + [{"text": name, "mode": "recognised"} for name in ("<BOS>", "<EOS>")]
    lines += [{"ids": ids, "skip": skip} for skip in (True, False) for ids in recorded["ids"]] + [{"notes": True}]
    text = "\n".join(map(json.dumps, lines))
    out = subprocess.run([program, folder], input=text, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in out.split("\n") if line]


def wrong_of(case, recorded, results):
    count = len(TEXTS)
    special = {"<BOS>": results[count]["ids"], "<EOS>": results[count + 1]["ids"]}
    before, behind = ([id for name in names for id in special[name]] for names in case.puts)
    expected = [{"ids": before + ids + behind} for ids in recorded["ids"]]
    found = results[:count]
    expected += [{"text": text} for text in recorded["plain"] + recorded["all"]]
    found += results[count + 2:-1]
    assert len(expected) == len(found), case.name
    wrong = [f"{right} expected, {one} found" for right, one in zip(expected, found) if right != one]
    notes = results[-1]["notes"]
    if len(notes) != case.notes:
        wrong.append(f"{case.notes} notes expected: {notes}")
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    program = parser.parse_args().program
    recorded = json.loads((HERE / "folders.json").read_text())
    bad = 0
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            wrong = wrong_of(case, recorded[case.name], answers(program, case.write(folder), recorded[case.name]))
        for line in wrong:
            print(f"{case.name}: {line}")
        bad += len(wrong)
    print(f"{len(CASES)} folders, {len(TEXTS)} texts: {bad} answers differ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
