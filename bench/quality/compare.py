#!/usr/bin/env python3
"""Compares powerprefill with PyTorch on a trained model: hidden states, logits, and answers.

    bench/quality/compare.py --model FOLDER [--tokens 2048] [--prompts 8] [--ranks 4]
    bench/quality/compare.py --model FOLDER --tokens 32768 --results bench/quality/results.csv

PyTorch computes softmax over the keys that the pattern's definition names, in float64, with the weights
that the checkpoint gives; powerprefill runs in f32, and the norm of the difference must be at most 1e-5 of
the norm. With --compute bf16 only the answers are compared, with PyTorch's in f32: a difference is accepted
where the logit of our token is nearer than --tie to PyTorch's best, and printed. With --results only PyTorch
runs, in f32, on the prompts of evaluate.py's cells of that length, and must find the share of right answers
that the CSV has for powerprefill: where both are 1, every token of every answer is the same. Ends non-zero
on failure."""

import argparse
import math
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "reference")]
from support import needs  # noqa: E402

needs.modules("numpy", "torch")
import numpy as np  # noqa: E402
import torch  # noqa: E402

import task  # noqa: E402
from evaluate import (DEPTHS, cells_done, config_of, evaluation_filler, is_right, program,  # noqa: E402
                      prompts_of, scores_of, threads)
from masks import attended_blocks  # noqa: E402
from model import load, rotary  # noqa: E402
from support.checkpoint import MPIRUN  # noqa: E402

TOLERANCE = 1e-5
SCORES_AT_ONCE = 1 << 20  # as many as a cache holds, but those of one query block at least


class AttendedBlocks:
    """For Model.forward: `attend`, and what it takes as mask, `table` (query blocks of `tokens` tokens, M):
    the key blocks that each query block attends to, filled up with -1."""

    def __init__(self, spec, tokens, device):
        self.block = spec["block"]
        attended = attended_blocks(spec, -(-tokens // self.block))
        lists = [np.flatnonzero(row) for row in attended]
        table = np.full((len(lists), max(map(len, lists))), -1)
        for row, blocks in zip(table, lists):
            row[:len(blocks)] = blocks
        self.table = torch.from_numpy(table).to(device)

    def attend(self, q, k, v, table):
        """q (1, H, T, D), k and v (1, G, T, D), table (blocks of T, M): (1, H, T, D)."""
        _, heads, count, size = q.shape
        kv_heads, block = k.shape[1], self.block
        rest = len(table) * block - count
        q, k, v = (torch.nn.functional.pad(x[0], (0, 0, 0, rest)).view(kv_heads, -1, len(table), block, size)
                   for x in (q * size ** -0.5, k, v))
        q = q.transpose(1, 2)  # (G, blocks, H / G, block, D): heads that share keys are rows of one product
        inside = torch.arange(block, device=table.device)
        out = []
        for first, key_blocks in self.chunks(table, heads):
            keys, values = (x[:, 0, key_blocks.clamp(min=0)].flatten(2, 3) for x in (k, v))
            scores = q[:, first:first + len(key_blocks)].flatten(2, 3) @ keys.transpose(-1, -2)
            key = (key_blocks[:, :, None] * block + inside).flatten(1)
            query = torch.arange(first, first + len(key_blocks), device=table.device)[:, None] * block + inside
            unseen = (key < 0)[:, None, :] | (key[:, None, :] > query[:, :, None])
            scores.masked_fill_(unseen.repeat(1, heads // kv_heads, 1), -math.inf)
            out.append(scores.softmax(-1) @ values)
        out = torch.cat(out, 1).view(kv_heads, len(table), -1, block, size).transpose(1, 2)
        return out.reshape(1, heads, -1, size)[:, :, :count]

    def chunks(self, table, heads):
        """(number of the first query block, its rows of the table)"""
        rows = max(1, SCORES_AT_ONCE // (heads * table.shape[1] * self.block ** 2))
        return [(first, table[first:first + rows]) for first in range(0, len(table), rows)]


@torch.no_grad()
def forward(model, prompt, attended):
    """Final hidden states (T, E), and logits (A + 1, V): those that predict the A tokens of the answer, and the
    last."""
    count = len(prompt.ids)
    table = attended.table[:-(-count // attended.block)]
    rope = rotary(model.shape, torch.arange(count, device=table.device))
    hidden = model(torch.tensor(prompt.ids, device=table.device)[None], rope, attended.attend, table)[0]
    return hidden.cpu(), model.logits(hidden[-prompt.answer - 1:]).cpu()


def relative(value, reference):
    return float(np.linalg.norm(value - reference) / np.linalg.norm(reference))


def ours(options, ids, folder):
    """Hidden states of all tokens and the logits after the last, from the cache file."""
    import h5py  # needed by f32's comparison alone, as what follows
    from support.cache import newest_record
    prompt, cache = folder / "tokens.txt", folder / "kv.h5"
    prompt.write_text(" ".join(map(str, ids)))
    subprocess.run([*program(options), "prefill", "--model", options.model, "--tokens", prompt, "--out",
                    cache, "--force", "--save-hidden", "--compute", "f32", "--quiet", *threads(options)],
                   check=True, stdin=subprocess.DEVNULL)
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


def states_differ(options, name, prompt, hidden, logits):
    """Whether hidden states or the last logits in f32 are further from these than TOLERANCE."""
    with tempfile.TemporaryDirectory(prefix="powerprefill-compare-") as folder:
        our_hidden, our_logits = ours(options, prompt.ids, Path(folder))
    errors = relative(our_hidden, hidden.numpy()), relative(our_logits, logits[-1].numpy())
    differ = max(errors) > TOLERANCE
    print(f"{name}, {len(prompt.ids)} tokens: hidden states {errors[0]:.1e}, logits {errors[1]:.1e}"
          f"{': WRONG' if differ else ''}")
    return differ


def differing_answers(options, name, prompt, best, logits):
    """Tokens of the answer that are not PyTorch's: (those that are ties, the others)."""
    ties = wrong = 0
    for place, row in enumerate(logits[:-1], len(prompt.ids) - prompt.answer):
        ours_there, theirs = best[place - 1], int(row.argmax())
        if ours_there == theirs:
            continue
        margin = float(row[theirs] - row[ours_there])
        tie = options.compute == "bf16" and margin < options.tie
        print(f"{name}, token {place}: {ours_there} instead of {theirs}, {margin:.3f} below it: "
              f"{'a tie' if tie else 'WRONG'}")
        ties, wrong = ties + tie, wrong + (not tie)
    return ties, wrong


def compare_prompts(options, model, attended):
    """How many comparisons failed."""
    prompts = prompts_for(options)
    all_ties = failed = 0
    for index, (prompt, scores) in enumerate(zip(prompts, scores_of(options, options.model, prompts))):
        name = f"prompt {index}"
        hidden, logits = forward(model, prompt, attended)
        if options.compute == "f32":
            failed += states_differ(options, name, prompt, hidden, logits)
        ties, wrong = differing_answers(options, name, prompt, scores["best"], logits)
        all_ties, failed = all_ties + ties, failed + wrong
    print(f"{len(prompts)} prompts, {all_ties} ties, {failed} failed")
    return failed


def compare_results(options, model, attended, pattern):
    """Of evaluate.py's cells of this length: how many have another share of right answers."""
    cells = [row for row in cells_done(options.results)
             if (row["model"], row["task"], int(row["tokens"])) == (pattern, "passkey", options.tokens)]
    if not cells:
        sys.exit(f"{options.results}: no passkey cells of {pattern} at {options.tokens} tokens")
    vocabulary = task.Vocabulary()
    filler = evaluation_filler(vocabulary)
    failed = 0
    for row in cells:
        prompts = prompts_of(vocabulary, filler, "passkey", options.tokens, float(row["depth"]), int(row["samples"]))
        right = fmean(is_right(prompt, forward(model, prompt, attended)[1][:-1].argmax(-1).tolist())
                      for prompt in prompts)
        print(f"depth {row['depth']}, {row['samples']} prompts: PyTorch {right:.2%} right, "
              f"powerprefill in {row['compute']} {float(row['right']):.2%}", flush=True)
        failed += round(right, 4) != float(row["right"])
    print(f"{len(cells)} cells, {failed} failed")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=2048, help="of a prompt, at most")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--evaluation", type=int, default=0, metavar="N",
                        help="instead: the first N prompts of every cell of evaluate.py")
    parser.add_argument("--results", type=Path, help="a CSV of evaluate.py, where models are named by their patterns")
    parser.add_argument("--compute", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--tie", type=float, default=0.1, help="bf16: logits that are as good as equal")
    parser.add_argument("--device", default="cpu", help="where PyTorch computes: cpu or cuda")
    parser.add_argument("--ranks", type=int, default=0, help="under mpirun; 0: without it")
    parser.add_argument("--threads", type=int, default=0, help="a rank; 0: powerprefill's choice")
    parser.add_argument("--binary", default=ROOT / "build" / "powerprefill")
    parser.add_argument("--mpirun", default=MPIRUN)
    options = parser.parse_args()
    if options.compute == "f32" and not options.results:
        needs.modules("h5py")
    spec = config_of(options.model)["power_attention"]
    attended = AttendedBlocks(spec, options.tokens, options.device)
    model = load(options.model).to(options.device)
    if options.results:
        failed = compare_results(options, model, attended, spec["pattern"])
    else:
        failed = compare_prompts(options, model.double() if options.compute == "f32" else model, attended)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
