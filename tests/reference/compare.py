#!/usr/bin/env python3
"""Compares the powerprefill binary with what transformers computed for one case.

    compare.py --binary PATH --case NAME [--mpirun "mpirun -np 3"]
        [--steps --steps-program PROGRAM] [--self-check] [--only MASK.LENGTH ...]

For every recorded mask and prompt length: prefill; keys and values of every layer, hidden states
and logits; the log-probabilities of `score`; then the greedy ids of decode. In the case `patterns` a mask is a run of
pattern_cases.py: a block pattern or a hybrid schedule. --steps adds the logits after each of the
given tokens, computed by `PROGRAM CHECKPOINT CACHE TOKENFILE OUTFILE`, which writes raw float32
(S, V); with `--zero-past` as its last argument it must miss them. --self-check compares with
altered recordings instead, and passes if every alteration is found. Needs numpy and h5py; ends
non-zero on failure.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import needs  # noqa: E402

needs.modules("h5py", "numpy")
import h5py  # noqa: E402
import numpy as np  # noqa: E402

import pattern_cases  # noqa: E402
from support.checkpoint import read_tensor  # noqa: E402

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-5  # norm of the difference over norm of the reference, per layer
CONTROL = 1e-2  # what leaving out the past must exceed
PATTERNS = {
    "full": "--attention full --block {block}",
    "power": "--attention power --block {block} --window 2 --sink 1",
}
LONG = 10000  # tokens from which full attention runs in larger blocks, to save time


def relative_error(value, reference):
    value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    if value.shape != reference.shape:
        raise ValueError(f"shape {value.shape} where {reference.shape} was recorded")
    error = np.linalg.norm(value - reference) / max(np.linalg.norm(reference), 1e-30)
    return float(error) if np.isfinite(error) else float("inf")


def run(command, timeout):
    """Returns stdout; a failing command ends with its stderr in the message."""
    command = [str(word) for word in command]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            timeout=timeout, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"`{shlex.join(command)}` ended with {result.returncode}:\n"
                           f"{result.stderr[-3000:]}")
    return result.stdout


class Report:
    """Prints every figure and remembers the failures."""

    def __init__(self, title):
        self.title = title
        self.passed = self.failed = 0

    def check(self, what, good, text):
        self.passed, self.failed = self.passed + bool(good), self.failed + (not good)
        print(f"{self.title} {what}: {text}{'' if good else '  FAILED'}", flush=True)

    def close(self, what, value, reference):
        error = relative_error(value, reference)
        self.check(what, error <= TOLERANCE, f"{error:.2e}")


class Recording:
    """What was recorded for one mask and prompt length."""

    def __init__(self, arrays, mask, length):
        prefix = f"{mask}.{length}."
        self.mask, self.length = mask, length
        self.parts = {name[len(prefix):]: arrays[name] for name in arrays.files
                      if name.startswith(prefix)}
        self.rows = self.parts.get("rows", slice(0, length))

    def __getitem__(self, part):
        return self.parts[part]

    def altered(self, part, change):
        other = object.__new__(Recording)
        other.__dict__.update(self.__dict__)
        other.parts = {**self.parts, part: change(self.parts[part].copy())}
        return other


def recordings(case):
    with np.load(HERE / "recorded" / f"{case}.npz") as arrays:
        names = sorted({tuple(name.split(".")[:2]) for name in arrays.files})
        found = [Recording(arrays, mask, int(length)) for mask, length in names]
    return sorted(found, key=lambda recording: (recording.length, recording.mask))


class Cache:
    """The committed part of a cache file, read with h5py alone."""

    def __init__(self, path, rows):
        with h5py.File(path, "r") as file:
            commits = np.ascontiguousarray(file["commit"][:, :64]).view("<u8")
            newest = commits[np.argmax(commits[:, 2])]
            self.tokens = int(newest[3])
            slot = int(newest[2]) % 2
            names = sorted(file["layers"])
            self.keys, self.values = ([np.asarray(file[f"layers/{name}/{part}"][:self.tokens],
                                                  np.float32)[rows] for name in names]
                                      for part in ("key", "value"))
            self.hidden_all = file["hidden_all"][:self.tokens][rows]
            self.hidden, self.logits = file["hidden"][slot], file["logits"][slot]


def compare_cache(report, cache, recorded):
    report.check("tokens", cache.tokens == recorded.length, str(cache.tokens))
    report.check("layers", len(cache.keys) == len(recorded["key"]), str(len(cache.keys)))
    for layer, (key, value) in enumerate(zip(recorded["key"], recorded["value"])):
        report.close(f"key of layer {layer}", cache.keys[layer], key)
        report.close(f"value of layer {layer}", cache.values[layer], value)
    report.close("hidden states", cache.hidden_all, recorded["hidden"])
    report.close("last hidden state", cache.hidden, recorded["hidden"][-1])
    report.close("logits", cache.logits, recorded["logits"])


def compare_ids(report, ids, recorded):
    expected = recorded["greedy"].tolist()
    same = next((i for i, (a, b) in enumerate(zip(ids, expected)) if a != b), len(expected))
    report.check("greedy ids", ids == expected, f"{same} of {len(expected)}, {len(ids)} printed")


def compare_scores(report, scores, checkpoint, recorded):
    """Against the log-softmax of the recorded hidden states' logits, in float64."""
    head = read_tensor(checkpoint, "lm_head.weight")
    if head is None:
        head = read_tensor(checkpoint, "model.embed_tokens.weight")
    rows = np.arange(recorded.length)[recorded.rows]
    known = rows + 1 < recorded.length
    logits = recorded["hidden"][known].astype(np.float64) @ head.astype(np.float64).T
    largest = logits.max(axis=1, keepdims=True)
    logits -= largest + np.log(np.exp(logits - largest).sum(axis=1, keepdims=True))
    following = recorded["tokens"][rows[known] + 1]
    expected = np.take_along_axis(logits, following[:, None].astype(np.int64), axis=1)[:, 0]
    report.check("scores", len(scores["best"]) == recorded.length - 1, str(len(scores["best"])))
    found = np.array(scores["log_probabilities"])[rows[known]]
    if not known.any():
        return
    report.close("log-probabilities", found, expected)
    best = np.array(scores["best"])[rows[known]]
    behind = logits.max(axis=1) - np.take_along_axis(logits, best[:, None], axis=1)[:, 0]
    report.check("likeliest tokens", behind.max() < 1e-4, f"{behind.max():.2e} behind the best")


def compare_steps(report, options, checkpoint, cache, recorded, folder):
    tokens, result = folder / "forced.txt", folder / "steps.bin"
    tokens.write_text(" ".join(map(str, recorded["forced"])) + "\n")
    program = shlex.split(options.steps_program) + [checkpoint, cache, tokens, result]
    for control in (False, True):
        result.unlink(missing_ok=True)
        run(program + ["--zero-past"] * control, options.timeout)
        logits = np.fromfile(result, "<f4")
        logits = logits.reshape(-1, recorded["steps"].shape[1])
        if not control:
            report.close("logits of given tokens", logits, recorded["steps"])
            continue
        error = relative_error(logits, recorded["steps"])
        report.check("the same without the past", error > CONTROL, f"{error:.2e}, must be large")


class Case:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.patterns = options.case == "patterns"
        name = pattern_cases.CHECKPOINT if self.patterns else options.case
        self.checkpoint = HERE / "checkpoints" / name

    def attention(self, recorded):
        """The options that ask for the recorded mask."""
        if not self.patterns:
            block = 16 if recorded.length < LONG else 256
            return PATTERNS[recorded.mask].format(block=block).split()
        distances = self.folder / "distances.txt"
        distances.write_text(pattern_cases.DISTANCES)
        words = pattern_cases.RUNS[recorded.mask][1].format(distances=distances).split()
        return [*words, "--block", pattern_cases.BLOCK]

    def prefill(self, recorded, checkpoint):
        """Returns the path of the cache."""
        tokens, cache = self.folder / "tokens.txt", self.folder / "cache.h5"
        tokens.write_text(" ".join(map(str, recorded["tokens"])) + "\n")
        cache.unlink(missing_ok=True)
        run([*shlex.split(self.options.mpirun), self.options.binary, "prefill",
             "--model", checkpoint, "--tokens", tokens, "--out", cache,
             *self.attention(recorded), "--compute", "f32", "--save-hidden", "--quiet"],
            self.options.timeout)
        return cache

    def score(self, recorded, checkpoint):
        """Of the tokens that prefill() has written, what `score` makes."""
        result = self.folder / "scores.json"
        run([*shlex.split(self.options.mpirun), self.options.binary, "score", "--model", checkpoint,
             "--tokens", self.folder / "tokens.txt", *self.attention(recorded), "--compute", "f32",
             "--nll", result, "--quiet"], self.options.timeout)
        return json.loads(result.read_text())

    def decode(self, cache, checkpoint, count):
        text = run([*shlex.split(self.options.decode_mpirun), self.options.binary, "decode", cache,
                    "--model", checkpoint, "--max-new-tokens", count, "--ids"],
                   self.options.timeout)
        return [int(word) for word in text.split()]

    def old_checkpoint(self):
        """A copy of the checkpoint whose config.json has the old spelling, or None."""
        if not (self.checkpoint / "config.old.json").exists():
            return None
        old = self.folder / "old"
        shutil.copytree(self.checkpoint, old, dirs_exist_ok=True)
        shutil.copy(self.checkpoint / "config.old.json", old / "config.json")
        return old

    def compare(self, report, recorded, checkpoint):
        cache = self.prefill(recorded, checkpoint)
        compare_cache(report, Cache(cache, recorded.rows), recorded)
        compare_scores(report, self.score(recorded, checkpoint), checkpoint, recorded)
        if self.options.steps:
            compare_steps(report, self.options, checkpoint, cache, recorded, self.folder)
        ids = self.decode(cache, checkpoint, len(recorded["greedy"]))
        compare_ids(report, ids, recorded)

    def self_check(self, report, recorded):
        path = self.prefill(recorded, self.checkpoint)
        cache = Cache(path, recorded.rows)
        ids = self.decode(path, self.checkpoint, len(recorded["greedy"]))
        scores = self.score(recorded, self.checkpoint)
        compare_cache(report, cache, recorded)
        compare_ids(report, ids, recorded)
        compare_scores(report, scores, self.checkpoint, recorded)
        moved = {**scores, "log_probabilities": np.roll(scores["log_probabilities"], 1)}
        trial = Report("   altered")
        compare_scores(trial, moved, self.checkpoint, recorded)
        report.check("scores moved by a token", trial.failed > 0, f"{trial.failed} comparisons fail")

        def zero_past(key):
            key[:, :-1] = 0
            return key

        def nudge(values):
            values[-1] *= 1 + 1e-4
            return values

        def flip(ids):
            ids[-1] ^= 1
            return ids

        alterations = [("key", zero_past), ("key", nudge), ("value", nudge), ("hidden", nudge),
                       ("logits", np.negative), ("greedy", flip)]
        for part, change in alterations:
            trial = Report("   altered")
            altered = recorded.altered(part, change)
            compare_cache(trial, cache, altered)
            compare_ids(trial, ids, altered)
            report.check(f"{part} altered by {getattr(change, '__name__', change)}",
                         trial.failed > 0, f"{trial.failed} comparisons fail")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--case", required=True)
    parser.add_argument("--mpirun", default="", help="words before the binary for prefill")
    parser.add_argument("--decode-mpirun", default="", help="the same for decode")
    parser.add_argument("--steps", action="store_true")
    parser.add_argument("--steps-program", help="may begin with mpirun")
    parser.add_argument("--self-check", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="MASK.LENGTH")
    parser.add_argument("--timeout", type=float, default=900, help="seconds per command")
    options = parser.parse_args()
    if options.steps and not options.steps_program:
        parser.error("--steps needs --steps-program")
    found = [recorded for recorded in recordings(options.case)
             if not options.only or f"{recorded.mask}.{recorded.length}" in options.only]
    reports = []
    with tempfile.TemporaryDirectory(prefix="powerprefill-reference-") as folder:
        case = Case(options, Path(folder))
        jobs = [(recorded, case.checkpoint, "") for recorded in found]
        if options.self_check:
            jobs = [job for job in jobs if job[0].length > 1][:1]
        elif found and case.old_checkpoint():
            jobs.append((found[-1], case.old_checkpoint(), ", old config"))
        for recorded, checkpoint, note in jobs:
            title = f"{options.case}, {recorded.mask}, {recorded.length} tokens{note}:"
            reports.append(Report(title))
            try:
                if options.self_check:
                    case.self_check(reports[-1], recorded)
                else:
                    case.compare(reports[-1], recorded, checkpoint)
            except (RuntimeError, ValueError, KeyError, OSError, IndexError,
                    subprocess.TimeoutExpired) as error:
                reports[-1].check("run", False, f"{type(error).__name__}: {error}")
    passed = sum(report.passed for report in reports)
    failed = sum(report.failed for report in reports)
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
