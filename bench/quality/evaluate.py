#!/usr/bin/env python3
"""Measures what a trained model retrieves, by prompt length and needle depth, as powerprefill runs it.

    bench/quality/evaluate.py --model power=FOLDER --model sliding=FOLDER2 ... [--csv F.csv] [--svg F.svg]

Every prompt (task.py) ends with its question and answer; `powerprefill score` tells the likeliest
token in each place, so that a prompt counts as right when greedy decoding would have answered it.
Beside the accuracy stands the reach: the share of prompts with a part of the needle in a block that
the pattern can carry to the last block through all layers but one, which is needed to read the needle.
Random prompts are the same for all models. A run goes on from what the CSV has of earlier ones."""

import argparse
import csv
import functools
import json
import math
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean

import task

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "reference")]
from support import needs  # noqa: E402

needs.modules("numpy")
from masks import reached_blocks  # noqa: E402
from support.checkpoint import MPIRUN, launcher  # noqa: E402

DEPTHS = [i / 10 for i in range(10)]
FIELDS = ["model", "task", "tokens", "depth", "samples", "right", "reach", "nll", "answer_nll", "compute", "ranks"]


def evaluation_filler(vocabulary):
    return task.Filler(vocabulary, 40000, seed=1_000_001)  # not the text of the training


def prompts_of(vocabulary, filler, name, tokens, depth, samples):
    """The second needle of a task with two is anywhere."""
    draw = random.Random(f"evaluation {name} {tokens} {depth}")
    for _ in range(samples):
        depths = [depth] if name == "passkey" else [depth, draw.random()]
        yield task.make_prompt(vocabulary, filler, draw, name, tokens, depths)


def program(options):
    """The words that start powerprefill, under mpirun if there are ranks."""
    needs.programs("build it first: cmake --preset release && cmake --build --preset release", options.binary)
    return [*launcher(options.ranks, options.mpirun), options.binary]


def threads(options):
    return ["--threads", str(options.threads)] if options.threads else []


def config_of(model):
    """The config.json of a model whose layers all have one pattern, its power_attention."""
    config = json.loads(Path(model, "config.json").read_text())
    if config["power_attention"].get("full_layers"):
        sys.exit(f"{model}: has full_layers; masks and reach are computed here for one pattern alone")
    return config


def scores_of(options, model, prompts):
    """For each prompt what --nll writes: log_probabilities of all tokens but the first, and the `best`
    token in each one's place."""
    with tempfile.TemporaryDirectory(prefix="powerprefill-quality-") as folder:
        batch, scores = Path(folder, "prompts.jsonl"), Path(folder, "scores.jsonl")
        batch.write_text("".join(json.dumps({"tokens": prompt.ids}) + "\n" for prompt in prompts))
        subprocess.run([*program(options), "score", "--model", model, "--batch", batch, "--nll", scores,
                        "--compute", options.compute, "--quiet", *threads(options)],
                       check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        with open(scores, encoding="ascii") as lines:
            return [json.loads(line) for line in lines]


def is_right(prompt, best):
    return best[-prompt.answer:] == prompt.ids[-prompt.answer:]


@functools.lru_cache(maxsize=None)
def reach(pattern, blocks, layers):
    """reached_blocks() of a pattern as JSON."""
    return reached_blocks(json.loads(pattern), blocks, layers)


def is_reached(prompt, config):
    """Whether a part of every needle can be known at the last token."""
    spec = config["power_attention"]
    block = spec["block"]
    reached = reach(json.dumps(spec), -(-len(prompt.ids) // block), config["num_hidden_layers"] - 1)
    return all(reached[begin // block:-(-end // block)].any() for _, _, begin, end in prompt.needles)


def cells_done(path):
    if not path or not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def cell(options, vocabulary, filler, model, task_name, tokens, depth):
    """The row of one model, length and depth. nll: minus the mean natural logarithm of the probability
    of all tokens, and of those of the answers."""
    name, folder = model
    config = config_of(folder)
    prompts = list(prompts_of(vocabulary, filler, task_name, tokens, depth, options.samples))
    scores = scores_of(options, folder, prompts)
    right = fmean([is_right(prompt, score["best"]) for prompt, score in zip(prompts, scores)])
    reached = fmean([is_reached(prompt, config) for prompt in prompts])
    logs = [score["log_probabilities"] for score in scores]
    every = -fmean([value for log in logs for value in log])
    answer = -fmean([value for prompt, log in zip(prompts, logs) for value in log[-prompt.answer:]])
    return dict(zip(FIELDS, (name, task_name, tokens, depth, options.samples, round(right, 4), round(reached, 4),
                             round(every, 5), round(answer, 5), options.compute, options.ranks or 1)))


def evaluate(options, vocabulary, filler, rows):
    seen = {(row["model"], row["task"], int(row["tokens"]), float(row["depth"])) for row in rows}
    for model in options.model:
        for task_name in options.tasks:
            for tokens in options.lengths:
                for depth in DEPTHS:
                    if (model[0], task_name, tokens, depth) in seen:
                        continue
                    rows.append(cell(options, vocabulary, filler, model, task_name, tokens, depth))
                    print(",".join(str(rows[-1][field]) for field in FIELDS), flush=True)
                    if options.csv:
                        write_csv(options.csv, rows)


def write_csv(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def table(rows):
    """Over all depths, a line per model and task, a column per length: accuracy (reach), then the
    perplexity of all tokens and of the answers'."""
    lengths = sorted({int(row["tokens"]) for row in rows})
    cells = {}
    for row in rows:
        cells.setdefault((row["model"], row["task"], int(row["tokens"])), []).append(row)
    mean = lambda some, field: fmean(float(row[field]) for row in some)  # noqa: E731
    views = {"accuracy (reach)": lambda some: f"{mean(some, 'right'):.1%} ({mean(some, 'reach'):.0%})",
             "perplexity": lambda some: f"{math.exp(mean(some, 'nll')):.2f}",
             "of the answer": lambda some: f"{math.exp(mean(some, 'answer_nll')):.3g}"}
    for title, view in views.items():
        print(title.ljust(24), *(f"{tokens:>14}" for tokens in lengths))
        for name, task_name in dict.fromkeys(key[:2] for key in cells):
            words = [view(cells[key]) if (key := (name, task_name, tokens)) in cells else "" for tokens in lengths]
            print(f"{name}, {task_name}".ljust(24), *(word.rjust(14) for word in words))


def svg(rows, task_name):
    """Grids of depth by length, one per model: dark where answers are right, framed where in reach."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    lengths = sorted({int(row["tokens"]) for row in rows})
    cell, left, top = 26, 46, 44
    width, height = cell * len(lengths) + left, cell * len(DEPTHS) + top + 26
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * len(models) + 10}" height="{height + 20}" '
             'font-family="sans-serif" font-size="10"><rect width="100%" height="100%" fill="white"/>']
    for m, model in enumerate(models):
        x0 = m * width
        parts.append(f'<text x="{x0 + left}" y="18" font-size="13" font-weight="bold">{model}</text>'
                     f'<text x="{x0 + left}" y="34" fill="#666">right answers, %</text>')
        for r, depth in enumerate(DEPTHS):
            parts.append(f'<text x="{x0 + left - 6}" y="{top + r * cell + 17}" text-anchor="end">{depth:.1f}</text>')
        for c, tokens in enumerate(lengths):
            label = f"{tokens // 1024}K" if tokens >= 1024 else str(tokens)
            parts.append(f'<text x="{x0 + left + c * cell + 13}" y="{top + len(DEPTHS) * cell + 14}" '
                         f'text-anchor="middle">{label}</text>')
            for r, depth in enumerate(DEPTHS):
                found = [row for row in rows if (row["model"], row["task"], int(row["tokens"]), float(row["depth"]))
                         == (model, task_name, tokens, depth)]
                if not found:
                    continue
                right, reach = float(found[0]["right"]), float(found[0]["reach"])
                shade = [round(255 - right * (255 - full)) for full in (33, 102, 172)]
                frame = "#111" if reach > 0.5 else "#ccc"
                parts.append(f'<rect x="{x0 + left + c * cell + 1}" y="{top + r * cell + 1}" width="{cell - 3}" '
                             f'height="{cell - 3}" fill="rgb{tuple(shade)}" stroke="{frame}"/>'
                             f'<text x="{x0 + left + c * cell + 12}" y="{top + r * cell + 16}" text-anchor="middle" '
                             f'font-size="9" fill="{"white" if right > 0.5 else "#333"}">{right * 100:.0f}</text>')
    parts.append(f'<text x="{left}" y="{height + 12}" fill="#666">rows: depth of the needle; columns: tokens; '
                 'black frame: the pattern carries the needle to the question</text></svg>')
    return "\n".join(parts) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER",
                        type=lambda text: tuple(text.split("=", 1)), help="a trained checkpoint; repeatable")
    words = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("--tasks", type=words, default=["passkey"], help="of passkey, two, chain")
    parser.add_argument("--lengths", type=lambda text: [int(word) for word in text.split(",")],
                        default=[1024, 2048, 4096, 8192, 16384, 32768])
    parser.add_argument("--samples", type=int, default=50, help="prompts a cell")
    parser.add_argument("--compute", default="f32")
    parser.add_argument("--ranks", type=int, default=0, help="under mpirun; 0: without it")
    parser.add_argument("--threads", type=int, default=0, help="a rank; 0: powerprefill's choice")
    parser.add_argument("--binary", default=ROOT / "build" / "powerprefill")
    parser.add_argument("--mpirun", default=MPIRUN)
    parser.add_argument("--csv", type=Path, help="results, also those to go on from")
    parser.add_argument("--svg", type=Path, help="a figure of the first task")
    options = parser.parse_args()
    vocabulary = task.Vocabulary()
    filler = evaluation_filler(vocabulary)
    rows = cells_done(options.csv)
    evaluate(options, vocabulary, filler, rows)
    table(rows)
    if options.svg:
        options.svg.write_text(svg(rows, options.tasks[0]))


if __name__ == "__main__":
    main()
