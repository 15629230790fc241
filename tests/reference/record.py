#!/usr/bin/env python3
"""Makes the reference checkpoints and records what Hugging Face transformers computes for them.

Needs torch and transformers, runs on the CPU in float32, takes a few minutes:

    tests/reference/record.py [--root FOLDER] [--only CASE ...] [--archive FILE.tar.gz]

Writes tests/reference/checkpoints, tests/reference/recorded and data/ below FOLDER (the
repository). It prints how far a plain float64 forward pass is from what it recorded, and ends
non-zero when a recording would be useless: a mask that was not applied, attention that is not
peaked, a greedy choice that rounding could flip.
"""

import argparse
import os
import shutil
import sys
import tarfile
import tempfile
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import needs  # noqa: E402

needs.modules("numpy", "torch", "transformers")
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

import cases  # noqa: E402
from checkpoints import (expect, load_checkpoint, random_model, save_checkpoint,  # noqa: E402
                         write_old_config)
from plain import PlainModel, relative_error  # noqa: E402
from rope import record_rope  # noqa: E402

MINIMUM_MARGIN = 1e-3  # between the two largest logits of every greedy choice


def check_old_config(folder, model, tokens):
    with tempfile.TemporaryDirectory() as temporary:
        for file in folder.glob("*.safetensors*"):
            shutil.copy(file, temporary)
        shutil.copy(folder / "config.old.json", Path(temporary) / "config.json")
        old = load_checkpoint(Path(temporary))
        mask = mask_tensor("full", len(tokens))
        same = torch.equal(logits_of(old, tokens, mask), logits_of(model, tokens, mask))
    print(f"  old spelling gives the same bits: {same}")
    expect(same, f"{folder}: the old spelling of the config gives other results")


def mask_tensor(mask, tokens):
    allowed = torch.from_numpy(cases.allowed_pairs(mask, tokens))
    values = torch.zeros(tokens, tokens).masked_fill(~allowed, torch.finfo(torch.float32).min)
    return values[None, None]


def ids_of(tokens):
    return torch.from_numpy(np.asarray(tokens, np.int64))[None]


def logits_of(model, tokens, mask):
    return model(input_ids=ids_of(tokens), attention_mask=mask, use_cache=False).logits[0]


def keys_and_values(cache):
    """Two tensors (N, tokens, G, D)."""
    parts = [[getattr(layer, part)[0].transpose(0, 1) for layer in cache.layers]
             for part in ("keys", "values")]
    return [torch.stack(part) for part in parts]


def greedy_ids(model, tokens, mask_name):
    """Returns the ids and the smallest margin by which one was chosen."""
    ids, margin = list(tokens), np.inf
    for _ in range(cases.STEPS):
        logits = logits_of(model, ids, mask_tensor(mask_name, len(ids)))[-1]
        best = torch.topk(logits, 2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        ids.append(int(best.indices[0]))
    return np.array(ids[len(tokens):], np.int32), margin


def plain_model(model):
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    rotary = model.model.rotary_emb
    return PlainModel(weights, model.config.to_dict(), rotary.inv_freq.numpy(),
                      rotary.attention_scaling)


def record_prompt(model, plain, name, mask_name, tokens, forced):
    """Returns the arrays of one prompt under one mask, and the smallest greedy margin."""
    n = len(tokens)
    output = model.model(input_ids=ids_of(tokens), attention_mask=mask_tensor(mask_name, n),
                         use_cache=True)
    key, value = keys_and_values(output.past_key_values)
    every = np.concatenate((tokens, forced))
    steps = logits_of(model, every, mask_tensor(mask_name, len(every)))[n - 1:]
    last = logits_of(model, tokens, mask_tensor(mask_name, n))[-1]
    greedy, margin = greedy_ids(model, tokens, mask_name)
    arrays = dict(tokens=tokens, forced=forced, greedy=greedy, key=key.numpy(),
                  value=value.numpy(), hidden=output.last_hidden_state[0].numpy(),
                  logits=last.numpy(), steps=steps[1:].numpy())

    allowed = cases.allowed_pairs(mask_name, len(every))
    check = plain.forward(every, allowed)
    blind = plain.forward(every, allowed, zero_past=n)
    errors = {part: relative_error(arrays[part], check[part][:, :n]) for part in ("key", "value")}
    errors["hidden"] = relative_error(arrays["hidden"], check["hidden"][:n])
    errors["logits"] = relative_error(arrays["logits"], check["logits"][n - 1])
    errors["steps"] = relative_error(arrays["steps"], check["logits"][n:])
    zeroed = relative_error(blind["logits"][n:], check["logits"][n:])
    print(f"  {mask_name} {n}: from plain float64:",
          ", ".join(f"{part} {error:.1e}" for part, error in errors.items()),
          f"| mean largest probability {np.round(check['peaks'], 2)}",
          f"| logits without the past {zeroed:.2f} | greedy margin {margin:.1e}", flush=True)
    expect(max(errors.values()) < 5e-6, "transformers and the plain forward pass disagree")
    if n > 100:
        expect(min(check["peaks"]) > 0.5, "attention is not peaked")
        expect(zeroed > 0.1, "the past hardly matters")
    return arrays, margin


def record_case(name, case, folder):
    print(f"{name}:", flush=True)
    checkpoint = folder / "checkpoints" / name
    save_checkpoint(random_model(name, case), case, checkpoint)
    model = load_checkpoint(checkpoint)
    plain = plain_model(model)
    vocabulary = case["config"]["vocab_size"]
    if case["old_config"]:
        write_old_config(checkpoint)
        check_old_config(checkpoint, model, cases.random_tokens([name, "old"], 50, vocabulary))

    arrays = {}
    for length in case["lengths"]:
        for attempt in range(10):  # until no greedy choice is a near tie
            tokens = cases.random_tokens([name, length, attempt], length + cases.STEPS, vocabulary)
            tokens, forced = tokens[:length], tokens[length:]
            results = {mask: record_prompt(model, plain, name, mask, tokens, forced)
                       for mask in ("full", "power")}
            if min(margin for _, margin in results.values()) > MINIMUM_MARGIN:
                break
        else:
            raise RuntimeError(f"{name}: no prompt of {length} tokens without near ties")
        for mask, (result, _) in results.items():
            arrays.update({f"{mask}.{length}.{part}": a for part, a in result.items()})
        if length > 100:
            gap = relative_error(results["power"][0]["hidden"], results["full"][0]["hidden"])
            print(f"  hidden states under the two masks differ by {gap:.2f}")
            expect(gap > 0.05, "the mask hardly matters")
    save_arrays(folder, name, arrays)


def save_arrays(folder, name, arrays):
    path = folder / "recorded" / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    print(f"  {path.name}: {path.stat().st_size} bytes", flush=True)


def check_long(plain, tokens, rows, key, value):
    """Layer 1's keys and values at `rows` need layer 0's attention at `rows` only."""
    positions = np.arange(len(tokens))
    hidden = plain.embed(tokens)
    q, k, v = plain.project(0, hidden, positions)
    attended, peak = plain.attend(q[rows], k, v, positions[None, :] <= rows[:, None])
    _, next_k, next_v = plain.project(1, plain.finish(0, hidden[rows], attended), rows)
    errors = [relative_error(key[0], k[rows]), relative_error(value[0], v[rows]),
              relative_error(key[1], next_k), relative_error(value[1], next_v)]
    print("  from plain float64:", ", ".join(f"{error:.1e}" for error in errors),
          f"| mean largest probability {peak:.2f}", flush=True)
    expect(max(errors) < 5e-6, "transformers and the plain forward pass disagree")


def long_forward(model, tokens):
    """Without a mask and through a kernel that never makes a (tokens, tokens) matrix."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from transformers.integrations import sdpa_attention
    for attempt in range(2):
        try:
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                return model.model(input_ids=ids_of(tokens), use_cache=True)
        except RuntimeError as error:
            if attempt or not hasattr(sdpa_attention, "use_gqa_in_sdpa"):
                raise
            print(f"  repeating keys for the kernel, because: {str(error)[:200]}", flush=True)
            sdpa_attention.use_gqa_in_sdpa = lambda *arguments: False


def record_long(folder):
    name, case, n = "llama-long", cases.LONG_CASE, cases.LONG_LENGTH
    print(f"{name}:", flush=True)
    checkpoint = folder / "checkpoints" / name
    save_checkpoint(random_model(name, case), case, checkpoint)
    model = load_checkpoint(checkpoint, attention="sdpa")
    vocabulary = case["config"]["vocab_size"]
    tokens = cases.random_tokens([name, n], n + cases.STEPS, vocabulary)
    tokens, forced = tokens[:n], tokens[n:]
    output = long_forward(model, tokens)
    key, value = keys_and_values(output.past_key_values)
    rows = np.concatenate((np.arange(50000, 50064), np.arange(n - 256, n))).astype(np.int32)
    key, value = key[:, rows].numpy(), value[:, rows].numpy()
    hidden = output.last_hidden_state[0]
    last = model.lm_head(hidden[-1])
    hidden = hidden[rows].numpy()
    check_long(plain_model(model), tokens, rows, key, value)

    def decode(choose):
        logits, chosen, seen, margin = last, [], [], np.inf
        for step in range(cases.STEPS):
            best = torch.topk(logits, 2).values
            margin = min(margin, float(best[0] - best[1]))
            chosen.append(choose(step, logits))
            logits = model(input_ids=ids_of(chosen[-1:]), past_key_values=output.past_key_values,
                           use_cache=True).logits[0, -1]
            seen.append(logits)
        output.past_key_values.crop(-cases.STEPS)
        return np.array(chosen, np.int32), torch.stack(seen).numpy(), margin

    _, steps, _ = decode(lambda step, logits: int(forced[step]))
    greedy, _, margin = decode(lambda step, logits: int(torch.argmax(logits)))
    print(f"  greedy margin {margin:.1e}")
    expect(margin > MINIMUM_MARGIN, f"{name}: a greedy choice is a near tie")
    arrays = dict(tokens=tokens, forced=forced, greedy=greedy, rows=rows, key=key, value=value,
                  hidden=hidden, logits=last.numpy(), steps=steps)
    save_arrays(folder, name, {f"full.{n}.{part}": a for part, a in arrays.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--only", nargs="+", help="of: the cases, rope, llama-long")
    parser.add_argument("--archive", type=Path, help="also pack what was made into a .tar.gz")
    options = parser.parse_args()
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(False)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, "
          f"numpy {np.__version__}, kernels {torch.backends.cpu.get_cpu_capability()}", flush=True)

    reference = options.root / "tests" / "reference"
    jobs = {name: (4, record_case, (name, case, reference)) for name, case in cases.CASES.items()}
    jobs["rope"] = (4, record_rope, (reference,))
    jobs["llama-long"] = (os.cpu_count(), record_long, (reference,))
    failed = []
    for name, (threads, job, arguments) in jobs.items():
        if options.only and name not in options.only:
            continue
        torch.set_num_threads(threads)
        try:
            job(*arguments)
        except Exception:  # the other cases are still worth having
            traceback.print_exc(file=sys.stdout)
            failed.append(name)
    if options.archive:
        with tarfile.open(options.archive, "w:gz") as archive:
            for path in (reference / "checkpoints", reference / "recorded"):
                if path.exists():
                    archive.add(path, path.relative_to(options.root))
        print(f"{options.archive}: {options.archive.stat().st_size} bytes")
    print("failed: " + ", ".join(failed) if failed else "all recorded")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
