#!/usr/bin/env python3
"""Records what the reference makes of the strings; needs node and npm.

    record.py --folder FOR_PACKAGES
"""

import argparse
import hashlib
import json
import subprocess

from fetch import HERE, NAMES, fetch
from strings import id_rows, strings


def requests(vocabulary):
    lines = [{"text": text, "mode": mode} for mode in ("added", "recognised") for text in strings()]
    return lines + [{"ids": ids, "skip": skip} for ids in id_rows(vocabulary) for skip in (True, False)]


def ask_reference(folder, name):
    tokenizer = fetch(name, folder) / "tokenizer.json"
    vocabulary = len(json.loads(tokenizer.read_text())["model"]["vocab"])
    lines = "\n".join(json.dumps(line) for line in requests(vocabulary))
    out = subprocess.run(["node", HERE / "reference.js", fetch("reference", folder).resolve(), tokenizer],
                         input=lines, capture_output=True, text=True, check=True).stdout
    return vocabulary, [json.loads(line) for line in out.splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", required=True)
    folder = parser.parse_args().folder
    recorded = {}
    for name in NAMES:
        vocabulary, results = ask_reference(folder, name)
        count = len(strings())
        ids = [result["ids"] for result in results[:2 * count]]
        recorded[name] = {
            "sha256": hashlib.sha256((fetch(name, folder) / "tokenizer.json").read_bytes()).hexdigest(),
            "vocabulary": vocabulary,
            # What is put around a text, and the ids of each text without it.
            "empty": ids[0],
            "ids": ids[count:],
            "texts": [result["text"] for result in results[2 * count:]],
        }
        for whole, plain in zip(ids[:count], ids[count:]):
            assert whole == ids[0] + plain, (name, whole, plain)  # nothing is put behind
    rows = [f"{json.dumps(name)}: {json.dumps(known, separators=(',', ':'))}" for name, known in recorded.items()]
    (HERE / "recorded.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
