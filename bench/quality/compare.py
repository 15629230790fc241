#!/usr/bin/env python3
"""Compares powerprefill with PyTorch on a trained model: hidden states, logits, and answers.

    bench/quality/compare.py --model FOLDER [--tokens 2048] [--prompts 8] [--ranks 4]

PyTorch computes dense attention under the pattern's mask, in float64, with the weights that the
checkpoint gives; powerprefill runs in f32, and the norm of the difference must be at most 1e-5 of the
norm. With --compute bf16 only the answers are compared, with PyTorch's in f32: a difference is accepted
where the logit of our token is nearer than --tie to PyTorch's best, and printed. Ends non-zero on failure."""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import task
from evaluate import DEPTHS, evaluation_filler, program, prompts_of, scores_of
from model import dense_attention, load, rotary

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "reference")]
from masks import attended_tokens  # noqa: E402

TOLERANCE = 1e-5


def attention_by_heads(q, k, v, allowed):
    """Dense attention, with room for the scores of one head at a time."""
    group = q.shape[1] // k.shape[1]
    heads = [(q[:, h:h + 1], *(x[:, h // group:h // group + 1] for x in (k, v))) for h in range(q.shape[1])]
    return torch.cat([dense_attention(*head, allowed) for head in heads], 1)


@torch.no_grad()
def forward(model, ids, allowed):
    """Final hidden states (T, E) and logits (T, V) under a mask of at least (T, T), where the mask is."""
    count, device = len(ids), allowed.device
    rope = rotary(model.shape, torch.arange(count, device=device))
    hidden = model(torch.tensor(ids, device=device)[None], rope, attention_by_heads, allowed[:count, :count])[0]
    return hidden.cpu(), model.logits(hidden).cpu()


def relative(value, reference):
    return float(np.linalg.norm(value - reference) / np.linalg.norm(reference))


def ours(options, ids, folder):
    """Hidden states of all tokens and the logits after the last, from the cache file."""
    import h5py  # needed by f32's comparison alone, as what follows
    from support.cache import newest_record
    tokens, cache = folder / "tokens.txt", folder / "kv.h5"
    tokens.write_text(" ".join(map(str, ids)))
    subprocess.run([*program(options), "prefill", "--model", options.model, "--tokens", tokens, "--out",
                    cache, "--force", "--save-hidden", "--compute", "f32", "--quiet"], check=True)
    with h5py.File(cache) as file:
        _, tokens, slot, _ = newest_record(file)
        return file["hidden_all"][:tokens], file["logits"][slot]


def prompts_for(options):
    vocabulary = task.Vocabulary()
    if options.evaluation:
        filler = evaluation_filler(vocabulary)
        return [prompt for depth in DEPTHS
                for prompt in prompts_of(vocabulary, filler, "passkey", options.tokens, depth, options.evaluation)]
    filler = task.Filler(vocabulary, 20000, seed=7)
    draw = random.Random(7)
    return [task.make_prompt(vocabulary, filler, draw, "passkey", options.tokens, [draw.random()])
            for _ in range(options.prompts)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=2048, help="of a prompt, at most")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--evaluation", type=int, default=0, metavar="N",
                        help="instead: the first N prompts of every cell of evaluate.py")
    parser.add_argument("--compute", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--tie", type=float, default=0.1, help="bf16: logits that are as good as equal")
    parser.add_argument("--device", default="cpu", help="where PyTorch computes: cpu or cuda")
    parser.add_argument("--ranks", type=int, default=0, help="under mpirun; 0: without it")
    parser.add_argument("--threads", type=int, default=0, help="a rank; 0: powerprefill's choice")
    parser.add_argument("--binary", default="build/powerprefill")
    parser.add_argument("--mpirun", default="mpirun --oversubscribe --bind-to none")
    options = parser.parse_args()
    spec = json.loads((options.model / "config.json").read_text())["power_attention"]
    prompts = prompts_for(options)
    model = load(options.model).to(options.device)
    allowed = torch.from_numpy(attended_tokens(spec, options.tokens, spec["block"])).to(options.device)
    if options.compute == "f32":
        model = model.double()
    best = [score["best"] for score in scores_of(options, options.model, prompts)]
    failed = ties = 0
    for index, (prompt, found) in enumerate(zip(prompts, best)):
        hidden, logits = forward(model, prompt.ids, allowed)
        if options.compute == "f32":
            with tempfile.TemporaryDirectory(prefix="powerprefill-compare-") as folder:
                our_hidden, our_logits = ours(options, prompt.ids, Path(folder))
            errors = relative(our_hidden, hidden.numpy()), relative(our_logits, logits[-1].numpy())
            print(f"prompt {index}, {len(prompt.ids)} tokens: hidden states {errors[0]:.1e}, logits {errors[1]:.1e}")
            failed += max(errors) > TOLERANCE
        for place in range(len(prompt.ids) - prompt.answer, len(prompt.ids)):
            two = logits[place - 1].topk(2)
            if found[place - 1] == int(two.indices[0]):
                continue
            margin = float(two.values[0] - logits[place - 1, found[place - 1]])
            tie = options.compute == "bf16" and margin < options.tie
            print(f"prompt {index}, token {place}: {found[place - 1]} instead of {int(two.indices[0])}, "
                  f"{margin:.3f} below it: {'a tie' if tie else 'WRONG'}")
            ties, failed = ties + tie, failed + (not tie)
    print(f"{len(prompts)} prompts, {ties} ties, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
