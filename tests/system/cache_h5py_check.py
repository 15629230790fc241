#!/usr/bin/env python3
"""Reads a cache file with h5py alone, as a user would, and checks what it sees.

Usage: cache_h5py_check.py KV.h5
Exits non-zero with a message when the file is not as src/cache/README.md describes it.
"""

import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import needs  # noqa: E402

needs.modules("h5py", "numpy")
import h5py  # noqa: E402
import numpy  # noqa: E402


def require(condition, text):
    if not condition:
        sys.exit("cache_h5py_check: " + text)


def newest_commit(file):
    """(sequence, tokens, slots) of the newest record with the right magic and generation."""
    generation = int(file.attrs["generation"])
    found = []
    for row in file["commit"][:, :64]:
        words = struct.unpack("<8Q", row.tobytes())
        if row[:8].tobytes() == b"PPKVCMT1" and words[1] == generation:
            found.append((words[2], words[3], words[4]))
    require(found, "no commit")
    return max(found)


def main():
    with h5py.File(sys.argv[1], "r") as file:
        attributes = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in file.attrs.items()
        }
        require(attributes["format"] == "powerprefill-kv", "wrong format")
        require(attributes["version_major"] == 1, "wrong version")
        require(attributes["checksum"] == "xxh3-64", "wrong checksum")
        capacity = int(attributes["capacity"])
        layers = int(attributes["num_layers"])
        shape = (capacity, int(attributes["num_kv_heads"]), int(attributes["head_dim"]))
        blocks = capacity // int(attributes["block_tokens"])
        sequence, tokens, slots = newest_commit(file)
        require(0 < tokens <= capacity, f"{tokens} tokens in a capacity of {capacity}")

        raw_type = {"f32": "<u4", "bf16": "<u2", "f16": "<u2"}[attributes["dtype"]]
        value_type = numpy.float16 if attributes["dtype"] == "f16" else numpy.float32
        require(("bfloat16" in file) == (attributes["dtype"] == "bf16"), "named type")
        for layer in range(layers):
            for part in ("key", "value"):
                data = file[f"layers/{layer:04d}/{part}"]
                require(data.shape == shape, f"{data.name} has shape {data.shape}")
                require(data.dtype == value_type, f"{data.name} has type {data.dtype}")
                require(data.chunks is None and data.id.get_offset(), f"{data.name}: layout")
                require(data.attrs["description"], f"{data.name} has no description")
                # The values must be those that the raw bytes stand for.
                raw = numpy.memmap(sys.argv[1], raw_type, "r", data.id.get_offset(), shape)[:tokens]
                if attributes["dtype"] == "bf16":
                    expected = (raw.astype(numpy.uint32) << 16).view(numpy.float32)
                else:
                    expected = raw.view(value_type)
                require(
                    numpy.array_equal(data[:tokens], expected, equal_nan=True),
                    f"{data.name}: h5py sees other values",
                )

        require(file["tokens"].dtype == numpy.int32, "type of tokens")
        require(file["tokens"].shape == (capacity,), "shape of tokens")
        require(file["decoded"].shape == (capacity,), "shape of decoded")
        require(file["checksums"].shape == (2, layers, 2, blocks), "shape of checksums")
        require(file["checksums"].dtype == numpy.uint64, "type of checksums")
        require(file["logits"].shape == (2, attributes["vocabulary"]), "shape of logits")
        require(file["hidden"].shape == (2, attributes["hidden_size"]), "shape of hidden")
        require(file["commit"].shape == (16, 4096), "shape of commit")
        require(slots in (0, 3) and slots % 2 == sequence % 2, f"slots {slots}")
        require(numpy.isfinite(file["logits"][slots & 1]).all(), "logits are not finite")
        require(("hidden_all" in file) == (attributes["saves_hidden"] == 1), "hidden_all")
        print(f"{sys.argv[1]}: {tokens} of {capacity} tokens, commit {sequence}, as described")


main()
