#!/usr/bin/env python3
"""Records the masks of all patterns, and what transformers computes under them.

Needs torch and transformers, and the checkpoints that record.py made:

    tests/reference/patterns.py [--out FOLDER]

Writes masks.npz and patterns.npz into FOLDER (tests/reference/recorded). The masks are those of masks.py. Ends non-zero when a recording would be useless, like record.py.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import needs  # noqa: E402

needs.modules("numpy", "torch", "transformers")
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

import cases  # noqa: E402
import pattern_cases  # noqa: E402
from checkpoints import expect, load_checkpoint  # noqa: E402
from masks import attended_blocks, attended_tokens  # noqa: E402
from plain import relative_error  # noqa: E402
from record import MINIMUM_MARGIN, ids_of, keys_and_values, plain_model  # noqa: E402

HERE = Path(__file__).resolve().parent


def mask_tensor(allowed):
    allowed = torch.from_numpy(allowed)
    values = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    return values[None, None]


class MaskPerLayer:
    """A model whose decoder layers each get a mask of their own instead of the model's."""

    def __init__(self, model):
        self.model = model
        self.masks = self.used = None
        for index, layer in enumerate(model.model.layers):
            layer.register_forward_pre_hook(self.replacement(index), with_kwargs=True)

    def replacement(self, index):
        def hook(_, positional, named):
            expect("attention_mask" in named, "the layer gets its mask in another way")
            self.used[index] += 1
            return positional, {**named, "attention_mask": self.masks[index]}
        return hook

    def forward(self, tokens, schedule):
        """Returns the last hidden states (tokens, E), logits (tokens, V) and the cache."""
        self.masks = [mask_tensor(attended_tokens(spec, len(tokens), pattern_cases.BLOCK))
                      for spec in schedule]
        self.used = [0] * len(schedule)
        output = self.model.model(input_ids=ids_of(tokens), attention_mask=self.masks[0],
                                  use_cache=True)
        expect(self.used == [1] * len(schedule), f"masks were used {self.used} times")
        hidden = output.last_hidden_state[0]
        return hidden, self.model.lm_head(hidden), output.past_key_values


def record_run(model, plain, name, schedule, tokens, forced):
    """Returns the arrays of one run, and the smallest margin of a greedy choice."""
    n = len(tokens)
    hidden, logits, cache = model.forward(tokens, schedule)
    key, value = keys_and_values(cache)
    every = np.concatenate((tokens, forced))
    steps = model.forward(every, schedule)[1][n:]
    ids, margin = list(tokens), np.inf
    for _ in range(pattern_cases.STEPS):
        best = torch.topk(model.forward(ids, schedule)[1][-1], 2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        ids.append(int(best.indices[0]))
    arrays = dict(tokens=tokens, forced=forced, greedy=np.array(ids[n:], np.int32),
                  key=key.numpy(), value=value.numpy(), hidden=hidden.numpy(),
                  logits=logits[-1].numpy(), steps=steps.numpy())

    allowed = np.stack([attended_tokens(spec, len(every), pattern_cases.BLOCK)
                        for spec in schedule])
    check = plain.forward(every, allowed)
    errors = {part: relative_error(arrays[part], check[part][:, :n]) for part in ("key", "value")}
    errors["hidden"] = relative_error(arrays["hidden"], check["hidden"][:n])
    errors["logits"] = relative_error(arrays["logits"], check["logits"][n - 1])
    errors["steps"] = relative_error(arrays["steps"], check["logits"][n:])
    print(f"  {name}: from plain float64:",
          ", ".join(f"{part} {error:.1e}" for part, error in errors.items()),
          f"| mean largest probability {np.round(check['peaks'], 2)}",
          f"| greedy margin {margin:.1e}", flush=True)
    expect(max(errors.values()) < 5e-6, "transformers and the plain forward pass disagree")
    expect(min(check["peaks"]) > 0.4, "attention is not peaked")
    return arrays, margin


def record_runs(path):
    model = load_checkpoint(HERE / "checkpoints" / pattern_cases.CHECKPOINT)
    plain = plain_model(model)
    n, vocabulary = pattern_cases.LENGTH, model.config.vocab_size
    per_layer = MaskPerLayer(model)
    runs = {**pattern_cases.RUNS, "full": ([pattern_cases.FULL] * 3, "")}
    for attempt in range(20):  # until no greedy choice is a near tie
        tokens = cases.random_tokens(["patterns", n, attempt], n + pattern_cases.STEPS, vocabulary)
        tokens, forced = tokens[:n], tokens[n:]
        results = {name: record_run(per_layer, plain, name, schedule, tokens, forced)
                   for name, (schedule, _) in runs.items()}
        if min(margin for _, margin in results.values()) > MINIMUM_MARGIN:
            break
        print("  a near tie: another prompt")
    else:
        raise RuntimeError("no prompt without near ties")
    names = list(results)
    gaps = {(a, b): relative_error(results[a][0]["hidden"], results[b][0]["hidden"])
            for a in names for b in names if a < b}
    print("  hidden states of two runs differ by at least:", min(gaps.items(), key=lambda g: g[1]))
    expect(min(gaps.values()) > 0.05, "two of the runs hardly differ")
    del results["full"]  # the other cases have it
    np.savez_compressed(path, **{f"{name}.{n}.{part}": array
                                 for name, (arrays, _) in results.items()
                                 for part, array in arrays.items()})


def record_masks(path):
    """`specs`: a JSON list; then one array `SPEC.BLOCKS` of packed rows each."""
    arrays = dict(specs=np.array(json.dumps(pattern_cases.MASK_SPECS)))
    for index, spec in enumerate(pattern_cases.MASK_SPECS):
        for blocks in pattern_cases.MASK_BLOCKS:
            mask = attended_blocks(spec, blocks)
            expect(bool(np.diag(mask).all()), f"{spec}: a block does not see itself")
            arrays[f"{index}.{blocks}"] = np.packbits(mask, axis=1)
    np.savez_compressed(path, **arrays)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "recorded")
    options = parser.parse_args()
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(False)
    torch.set_num_threads(4)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, "
          f"numpy {np.__version__}", flush=True)
    for name, record in (("masks", record_masks), ("patterns", record_runs)):
        path = options.out / f"{name}.npz"
        record(path)
        print(f"{path.name}: {path.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    sys.exit(main())
