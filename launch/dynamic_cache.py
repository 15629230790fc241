#!/usr/bin/env python3
"""Goes on from a cache file in transformers: loads it into a DynamicCache, and generates greedily.

    launch/dynamic_cache.py KV.h5 CHECKPOINT [NEW_TOKENS]

Prints token ids. Needs h5py, torch and transformers. If the module xxhash is there, everything that
is used is checked first, as src/cache/README.md says.
"""

import argparse
import importlib.util
import json
import struct
import sys
import warnings

for module in ("h5py", "torch", "transformers") if __name__ == "__main__" else ():
    if importlib.util.find_spec(module) is None:
        sys.exit(f"dynamic_cache.py: {sys.executable} has no module {module}; it needs h5py, torch and transformers "
                 "(pip install h5py torch transformers)")

import h5py  # noqa: E402
import numpy as np  # noqa: E402

try:
    import xxhash
except ImportError:
    xxhash = None


def hash_of(*arrays):
    return xxhash.xxh3_64_intdigest(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays))


def require(condition, problem):
    if not condition:
        raise ValueError(f"the cache file cannot be used: {problem}")


def newest_commit(file):
    """The words of the newest commit record."""
    records = file["commit"][:, :64].copy().view("<u8")
    magic, = struct.unpack("<Q", b"PPKVCMT1")

    def is_intact(row):
        words = records[row]
        return (words[0] == magic and words[1] == file.attrs["generation"] and words[2] % 16 == row
                and (xxhash is None or words[7] == hash_of(words[:7])))

    newest = max(filter(is_intact, range(16)), key=lambda row: records[row][2], default=0)
    after = (newest + 1) % 16  # without any, commit 1 may have been there
    require(is_intact(after) or not records[after].any(), "its newest commit is damaged")
    require(is_intact(newest), "it has no commit")
    return [int(word) for word in records[newest]]


def raw_rows(dataset, count):
    """The first rows as they lie in the file. HDF5 itself would turn bf16 into f32, slowly."""
    kind = dataset.id.get_type()
    rows = np.empty((count, *dataset.shape[1:]), f"<u{kind.get_size()}")
    space = dataset.id.get_space()
    space.select_hyperslab((0,) * rows.ndim, rows.shape)
    dataset.id.read(h5py.h5s.create_simple(rows.shape), space, rows, kind)
    return rows


def read_cache(path):
    """A dict of the committed state: `dtype`; `tokens` (n); `logits` (V) after them; `schedule`;
    `layers`, a list of (key, value), each (n, G, D) of float32, float16 or, for bf16, its bits."""
    with h5py.File(path, "r") as file:
        require(file.attrs["format"] == b"powerprefill-kv" and file.attrs["version_major"] == 1,
                "another format, or a newer version of it")
        _, _, _, n, slots, table_hash, _, _ = newest_commit(file)
        dtype, step = file.attrs["dtype"].decode(), int(file.attrs["block_tokens"])
        sums = file["checksums"][slots >> 1, :, :, :-(-n // step)]
        tokens, logits = file["tokens"][:n], file["logits"][slots & 1]
        if xxhash is not None:
            hidden_sums = [file["hidden_checksums"][slots >> 1, :-(-n // step)]
                           ] if file.attrs["saves_hidden"] else []
            ends = (tokens, file["decoded"][:n], logits, file["hidden"][slots & 1])
            ends = np.array([hash_of(values) for values in ends], "<u8")
            require(hash_of(sums, *hidden_sums, ends) == table_hash, "its tables are damaged")
        layers = []
        for layer in range(int(file.attrs["num_layers"])):
            rows = [raw_rows(file[f"layers/{layer:04d}/{part}"], n) for part in ("key", "value")]
            for part in range(2 if xxhash is not None else 0):
                for block, expected in enumerate(sums[layer, part]):
                    require(hash_of(rows[part][block * step:(block + 1) * step]) == expected,
                            f"layer {layer} {('key', 'value')[part]} block {block} is damaged")
            view = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16}[dtype]
            layers.append(tuple(part.view(view) for part in rows))
        return {"dtype": dtype, "tokens": tokens, "logits": logits, "layers": layers,
                "schedule": json.loads(file.attrs["schedule"])}


def dynamic_cache(layers):
    """Keys and values as transformers has them: (1, G, n, D) a layer, of the file's dtype."""
    import torch
    from transformers import DynamicCache

    def tensor(rows):
        bits = torch.from_numpy(rows.view(np.int16) if rows.dtype == np.uint16 else rows)
        bits = bits.view(torch.bfloat16) if rows.dtype == np.uint16 else bits
        return bits.transpose(0, 1)[None].contiguous()

    cache = DynamicCache()
    for layer, (key, value) in enumerate(layers):
        cache.update(tensor(key), tensor(value), layer)
    return cache


def generate(state, checkpoint, count):
    """Yields token ids; stops after `count` or at an end token."""
    import torch
    from transformers import AutoModelForCausalLM
    if any(layer["pattern"] != "full" for layer in state["schedule"]["layers"]):
        warnings.warn("the prompt was prefilled under a sparse schedule; generation goes on with "
                      "full attention over its keys, so `powerprefill decode` can say other tokens")
    model = AutoModelForCausalLM.from_pretrained(checkpoint).float().eval()  # prefill's precision
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    cache, logits = dynamic_cache(state["layers"]), torch.from_numpy(state["logits"])
    for step in range(count):
        token = int(logits.argmax())
        yield token
        if token in ends or step + 1 == count:
            return
        with torch.no_grad():
            logits = model(torch.tensor([[token]]), past_key_values=cache).logits[0, -1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", metavar="KV.h5")
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("new_tokens", metavar="NEW_TOKENS", type=int, nargs="?", default=16)
    options = parser.parse_args()
    print(*generate(read_cache(options.cache), options.checkpoint, options.new_tokens))
