#!/usr/bin/env python3
"""Compares the library's patterns with recorded masks, bit for bit.

    compare_masks.py --program PATTERN_MASKS [--self-check]

PATTERN_MASKS is masks_main.cpp's program. --self-check alters one bit of every recorded mask and
passes if every alteration is found. Needs numpy; ends non-zero on failure.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import needs  # noqa: E402

needs.modules("numpy")
import numpy as np  # noqa: E402

HERE = Path(__file__).resolve().parent


def recorded_masks():
    """A list of (spec, blocks, mask (blocks, blocks) of 0 and 1)."""
    with np.load(HERE / "recorded" / "masks.npz") as arrays:
        specs = json.loads(str(arrays["specs"]))
        found = []
        for name in arrays.files:
            if name == "specs":
                continue
            index, blocks = map(int, name.split("."))
            found.append((specs[index], blocks,
                          np.unpackbits(arrays[name], axis=1, count=blocks)))
    return found


def program_masks(program, masks):
    """A list of (from attends(), from key_blocks()), in the order of `masks`."""
    requests = "".join(f"{blocks} {json.dumps(spec)}\n" for spec, blocks, _ in masks)
    result = subprocess.run([program], input=requests, stdout=subprocess.PIPE, text=True,
                            timeout=120, check=True)
    lines = iter(result.stdout.split())

    def read(blocks):
        rows = [np.frombuffer(next(lines).encode(), np.uint8) - ord("0") for _ in range(blocks)]
        return np.stack(rows)

    found = [(read(blocks), read(blocks)) for _, blocks, _ in masks]
    if next(lines, None) is not None:
        raise ValueError("more rows than were asked for")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--self-check", action="store_true")
    options = parser.parse_args()
    masks = recorded_masks()
    failed = 0
    for (spec, blocks, expected), found in zip(masks, program_masks(options.program, masks)):
        if options.self_check:
            expected[-1, blocks // 2] ^= 1
        for source, mask in zip(("attends()", "key_blocks()"), found):
            wrong = np.argwhere(mask != expected)
            if (len(wrong) > 0) == options.self_check:
                continue
            failed += 1
            text = f"{len(wrong)} pairs differ, one is {wrong[0]}" if len(wrong) else "not found"
            print(f"{spec}, {blocks} blocks, {source}: {text}  FAILED")
    print(f"{2 * len(masks) - failed} masks passed, {failed} failed")
    return 0 if masks and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
