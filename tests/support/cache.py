"""Reads cache files with h5py alone, by what the format's page says."""

import hashlib
import struct

import h5py
import numpy as np


def newest_record(file):
    """(sequence, tokens, value slot, checksum slot) of the newest commit."""
    newest = None
    for row in file["commit"][:, :64]:
        words = struct.unpack("<8Q", row.tobytes())
        if words[0] != struct.unpack("<Q", b"PPKVCMT1")[0]:
            continue
        if newest is None or words[2] > newest[0]:
            newest = (words[2], words[3], words[4] & 1, words[4] >> 1)
    return newest


def committed(path, tokens=None, last=True):
    """A hash of each dataset's committed content, by name, whatever its slots and capacity. With
    `tokens` that many are expected; fewer than are committed are compared with `last` false, which leaves
    out what belongs to the last token and to its block."""
    hashes = {}
    with h5py.File(path, "r") as file:
        _, found, values, sums = newest_record(file)
        count = found if tokens is None else tokens
        if last and count != found:
            raise AssertionError(f"{path}: {found} tokens are committed, not {count}")
        blocks = -(-count // int(file.attrs["block_tokens"])) - (0 if last else 1)
        contents = {"checksums": file["checksums"][sums][..., :blocks]}
        if last:
            contents.update(logits=file["logits"][values], hidden=file["hidden"][values])
        if "hidden_all" in file:
            contents.update(hidden_all=file["hidden_all"][:count],
                            hidden_checksums=file["hidden_checksums"][sums][:blocks])
        for name in ("tokens", "decoded"):
            contents[name] = file[name][:count]
        for layer in file["layers"]:
            for part in ("key", "value"):
                contents[f"{layer}/{part}"] = file[f"layers/{layer}/{part}"][:count]
        for name, content in contents.items():
            hashes[name] = hashlib.sha256(np.ascontiguousarray(content).tobytes()).hexdigest()
    return hashes
