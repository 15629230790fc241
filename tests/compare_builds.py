#!/usr/bin/env python3
"""Runs the same commands with two powerprefill binaries, and compares what they make, bit for bit.

    tests/compare_builds.py BEFORE AFTER [--only REGEX] [--jobs N] [--keep FOLDER] [--list]
    tests/compare_builds.py BEFORE AFTER --times [--only REGEX] [--rounds N] [--ranks N] [--threads N]

For a change that must not change results. The settings are the table below; a row is a series of commands, and after
each of them the two builds must agree on

- the exit code, what is printed, and the names of the files made;
- every dataset of the cache files up to their committed tokens, in the bytes of the file, and their commits; the types,
  sizes and attributes of all datasets, and the header but for the random `generation`;
- log-probabilities and best tokens of `score`, bytes of an export, counts of the report (chunks, tokens reused, ...).

A line a setting: `same`, or `DIFFERENT: ` and what. `also` follows where what is no result differs: the texts `writer`
and `numerics`, bytes exchanged or read, messages of refusals. Ends with 1 if anything differs; else with 2 if a setting
did not run as the table means it, such as a command that must succeed and fails in both builds.

--times: prefill and decode on a checkpoint of 27 million weights, the builds in turns, seconds from their reports.
Nothing else may run on the machine then. Needs numpy and h5py.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import re
import shlex
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from support import needs  # noqa: E402

needs.modules("h5py", "numpy")
import h5py  # noqa: E402
import numpy as np  # noqa: E402

from support.cache import newest_record  # noqa: E402
from support.checkpoint import Spec, end_launcher, folder_of_job, launcher, write_checkpoint  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120  # seconds for a command

RECORDED = ROOT / "tests/reference/checkpoints"
FAMILIES = ("llama", "llama-linear", "llama-long", "qwen2", "qwen3", "mistral")
SMALL = Spec(layers=3, heads=6, kv_heads=3)
MADE = {  # checkpoints made for the run, by name: Spec, change of its tensors
    "small": (SMALL, None),
    "other": (dataclasses.replace(SMALL, seed=9), None),
    "shards": (dataclasses.replace(SMALL, family="qwen3", dtype="f16", shards=3, tied=True), None),
    # Several tiles of a matrix product, and rows as long as a real model's.
    "wide": (Spec(dtype="bf16", hidden=896, heads=14, head_dim=64, feed_forward=1216, vocabulary=500, tied=True), None),
    "lacking": (SMALL, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight")),
    "not-finite": (SMALL, lambda tensors: tensors["model.norm.weight"].fill(np.nan)),
}

# The table. A step of a row is one of
#   [NAME=VALUE ...] RANKS[=CODE] SUBCOMMAND WORDS   RANKS `-`: without mpirun; CODE: the exit code that is meant
#   write FILE TEXT                                  makes an input
#   damage FILE DATASET [ROW], cut FILE              changes a bit in a row, the first; keeps half of the file
#   meant KEY=VALUE ...                              of the last report, in both builds; also KEY>NUMBER, KEY~BEGINNING
# In words, [A:B] is a file with tokens A to B of the model's random sequence, [A:B!C] of one that differs from C on;
# {prompt} is a file of text. The tool adds --quiet, and where they are not said --model, --threads 1, --out kv.h5,
# --report report.json, --nll nll.json.
B = "--block 16"
POWER = f"{B} --attention power --window 2"
F32 = "--compute f32"
BF16 = "--compute bf16"
LONG = "[0:613]"  # 38 blocks and 5 tokens: ranks meet within tiles, the last block is ragged
EMULATED = "DNNL_MAX_CPU_ISA=AVX2 ONEDNN_MAX_CPU_ISA=AVX2"
LOWER = "DNNL_MAX_CPU_ISA=AVX512_CORE ONEDNN_MAX_CPU_ISA=AVX512_CORE"
PATTERNS = {
    "power": "--attention power --window 2 --sink 2",
    "sliding": "--attention sliding --window 4 --sink 6",
    "stride": "--attention stride --window 3 --stride 8",
    "dilated": "--attention dilated --window 10",
    "longnet": "--attention longnet",
    "full": "--attention full",
    "mask": "--attention mask:distances.txt --sink 2",
}
DISTANCES = "write distances.txt 0 1 3 9 27\n"
BATCH = "write batch.jsonl " + "".join(
    json.dumps({"id": name, "tokens": [i * i % 61 for i in range(count)]}) + "\n"
    for name, count in (("a", 100), ("b", 33)))

TABLE = []  # (kind, name, model, steps)


def row(kind, name, model, *steps):
    TABLE.append((kind, name, model, steps))


for family in FAMILIES:
    tokens = "[0:6000]" if family == "llama-long" else "[0:205]"
    row("family", f"{family} f32", family,
        f"3 prefill --tokens {tokens} {POWER} {F32} --save-hidden", "2 decode kv.h5 --ids --max-new-tokens 12",
        "- decode kv.h5 --ids --tokens [205:230] --append --max-new-tokens 5", f"2 score --tokens {tokens} {B} {F32}")
    row("family", f"{family} bf16", family,
        f"2 prefill --tokens {tokens} {POWER} {BF16} --full-layers 1 --threads 2",
        "- decode kv.h5 --ids --tokens [205:230] --append --max-new-tokens 5",
        f"3 score --tokens {tokens} {POWER} {BF16}")
row("family", "embedded f32, text", "embedded",
    f"2 prefill --prompt-file {{prompt}} {F32}", "- decode kv.h5 --max-new-tokens 12",
    "2 decode kv.h5 --prompt 'Where is it?' --ids --append --max-new-tokens 5",
    f"2 score --prompt-file {{prompt}} {F32}")
row("family", "embedded bf16, text", "embedded",
    f"3 prefill --prompt-file {{prompt}} {BF16} --save-hidden --chunk-tokens 256", "meant chunks>2",
    "- decode kv.h5 --ids --max-new-tokens 12", f"- score --prompt-file {{prompt}} {BF16}")
row("family", "shards of f16", "shards",
    f"2 prefill --tokens {LONG} {POWER} {F32} --save-hidden", "- decode kv.h5 --ids --max-new-tokens 12")
row("family", "wide f32", "wide",
    f"3 prefill --tokens [0:1613] --attention power {F32} --threads 2 --save-hidden",
    "2 decode kv.h5 --ids --threads 2 --append --max-new-tokens 12")
row("family", "wide bf16", "wide",
    f"2 prefill --tokens [0:1613] --attention power {BF16} --full-layers 0 --save-hidden",
    "- decode kv.h5 --ids --threads 2 --append --max-new-tokens 12", f"2 score --tokens [0:777] {BF16}")

for pattern, options in PATTERNS.items():
    given = [DISTANCES] if pattern == "mask" else []
    row("pattern", f"{pattern} f32, contiguous", "small", *given,
        f"3 prefill --tokens {LONG} {B} {options} {F32} --save-hidden --partition contiguous",
        "- decode kv.h5 --ids --max-new-tokens 12")
    row("pattern", f"{pattern} bf16, zigzag", "small", *given,
        f"4 prefill --tokens {LONG} {B} {options} {BF16} --partition zigzag --threads 2",
        "2 decode kv.h5 --ids --append --max-new-tokens 5", f"2 score --tokens {LONG} {B} {options} {BF16}")

row("hybrid", "full layers 0,2, zigzag", "small",
    f"4 prefill --tokens {LONG} {POWER} --full-layers 0,2 {F32} --save-hidden --partition zigzag",
    "2 decode kv.h5 --ids --max-new-tokens 12", f"3 score --tokens {LONG} {POWER} --full-layers 0,2 {F32}")
row("hybrid", "full per 2/3, contiguous, bf16", "small",
    f"5 prefill --tokens {LONG} {POWER} --full-per 2/3 {BF16} --save-hidden --partition contiguous",
    "- decode kv.h5 --ids --threads 2 --max-new-tokens 12")
row("hybrid", "sliding and full, f16 cache", "small",
    f"2 prefill --tokens {LONG} {B} --attention sliding --window 3 --full-layers 1 {F32} --kv-dtype f16 --threads 2",
    "2 decode kv.h5 --ids --max-new-tokens 12")
row("hybrid", "stride and full, chunks", "small",
    f"3 prefill --tokens {LONG} {B} --attention stride --window 3 --stride 8 --full-layers 2 {F32} --chunk-tokens 112",
    "meant chunks=6", "- decode kv.h5 --ids --max-new-tokens 12")

for compute, environment, begins in (("f32", "", "f32"), ("bf16", "", "bf16"), ("bf16", EMULATED, "bf16 emulated")):
    for dtype in ("f32", "bf16", "f16"):
        row("numbers", f"{begins}, {dtype} cache", "small",
            f"{environment} 2 prefill --tokens {LONG} {POWER} --compute {compute} --kv-dtype {dtype} --save-hidden",
            f"meant kv_dtype={dtype} 'numerics~{begins}'",
            f"{environment} - decode kv.h5 --ids --append --max-new-tokens 5")
row("numbers", "bf16 wide, emulated", "wide",
    f"{EMULATED} 2 prefill --tokens [0:600] --attention power {BF16}", "meant 'numerics~bf16 emulated'",
    f"{EMULATED} - decode kv.h5 --ids --max-new-tokens 5")
row("numbers", "bf16 wide, lower instructions", "wide",
    f"{LOWER} 2 prefill --tokens [0:600] --attention power {BF16}", f"{LOWER} - decode kv.h5 --ids --max-new-tokens 5")
row("numbers", "f32 wide, Haswell's kernels", "wide",
    f"OPENBLAS_CORETYPE=Haswell 2 prefill --tokens [0:600] --attention power {F32}",
    "OPENBLAS_CORETYPE=Haswell - decode kv.h5 --ids --max-new-tokens 5")
row("numbers", "weights in a mapped file", "wide",
    f"2 prefill --tokens [0:300] {POWER} {F32} --weights-store . --weights-per numa",
    "- decode kv.h5 --ids --max-new-tokens 5")

for count, ranks in ((1, "-"), (1, "5"), (16, "2"), (17, "3"), (80, "5"), (81, "2")):
    options = f"{POWER} {BF16 if count % 2 else F32} --save-hidden"
    row("length", f"{count} tokens, {ranks.replace('-', 'no')} ranks", "small",
        f"{ranks} prefill --tokens [0:{count}] {options} --full-layers 1",
        f"{ranks} decode kv.h5 --ids --max-new-tokens 20",
        f"{ranks} score --tokens [0:{count}] {options.replace('--save-hidden', '')}")
row("length", "257 tokens, blocks of 256", "small",
    "2 prefill --tokens [0:257] --attention power", "- decode kv.h5 --ids --append --max-new-tokens 5")

row("chunks", "one block each", "small",
    f"2 prefill --tokens {LONG} {POWER} {F32} --chunk-tokens 16 --save-hidden", "meant chunks=39",
    "- decode kv.h5 --ids --max-new-tokens 5")
row("chunks", "no whole blocks, sink beyond a chunk", "small",
    f"3 prefill --tokens {LONG} {POWER} --sink 8 {F32} --chunk-tokens 100 --save-hidden", "meant chunks=6")
row("chunks", "bf16 hybrid, 5 ranks", "small",
    f"5 prefill --tokens {LONG} {POWER} {BF16} --full-layers 0 --chunk-tokens 160 --save-hidden", "meant chunks=4",
    "3 decode kv.h5 --ids --max-new-tokens 5")
row("chunks", "full, 2 threads, f16 cache", "small",
    f"2 prefill --tokens {LONG} {B} {BF16} --kv-dtype f16 --chunk-tokens 160 --threads 2", "meant chunks=4")
row("chunks", "wide", "wide",
    f"2 prefill --tokens [0:1613] --attention power {F32} --chunk-tokens 512 --threads 2", "meant chunks=4")

row("resume", "from within a block, other ranks", "small",
    f"2 prefill --tokens [0:203] {POWER} {F32} --full-layers 1 --save-hidden",
    f"3 prefill --tokens {LONG} {POWER} {F32} --full-layers 1 --save-hidden --resume --chunk-tokens 112",
    "meant resumed_from=203 computed_tokens=410", "- decode kv.h5 --ids --max-new-tokens 5", "2 verify kv.h5")
row("resume", "beyond the room, bf16", "small",
    f"- prefill --tokens [0:160] {POWER} {BF16} --reserve 0",
    f"4 prefill --tokens {LONG} {POWER} {BF16} --reserve 0 --resume", "meant resumed_from=160")
row("resume", "nothing, then what is complete", "small",
    f"2 prefill --tokens [0:160] {POWER} {F32} --resume", "meant resumed_from=0",
    f"- prefill --tokens [0:160] {POWER} {F32} --resume", "meant resumed_from=160 computed_tokens=0")
row("resume", "over an old file by force", "small",
    f"2 prefill --tokens [0:160] {POWER} {F32}", f"2 prefill --tokens [0:97] {B} {BF16} --force",
    "meant resumed_from=0")

row("prefix", "300 tokens in common", "small",
    f"2 prefill --tokens [0:613!300] {POWER} {F32} --full-layers 1 --save-hidden --out first.h5",
    f"3 prefill --tokens {LONG} {POWER} {F32} --full-layers 1 --save-hidden --prefix first.h5 --chunk-tokens 144",
    "meant reused_tokens=288", "- decode kv.h5 --ids --max-new-tokens 5")
row("prefix", "stops before decoded rows", "small",
    f"- prefill --tokens [0:203] {POWER} {BF16} --out first.h5",
    "2 decode first.h5 --tokens [203:240] --ids --append --max-new-tokens 70",
    f"2 prefill --tokens first.h5 {POWER} {BF16} --prefix first.h5", "meant tokens=310 reused_tokens=240")
row("prefix", "nothing in common", "small",
    f"- prefill --tokens [0:203!0] {POWER} {F32} --out first.h5",
    f"2 prefill --tokens {LONG} {POWER} {F32} --prefix first.h5",
    "meant reused_tokens=0")

PROMPT = f"2 prefill --tokens [0:203] {POWER} --full-layers 1"
row("decode", "input, then generate", "small",
    f"{PROMPT} {F32}", "3 decode kv.h5 --tokens [203:331] --ids --max-new-tokens 20 --threads 2",
    "meant input_tokens=128 new_tokens=20")
row("decode", "append input, append more", "small",
    f"{PROMPT} {F32} --save-hidden", "2 decode kv.h5 --tokens [203:331] --ids --append --max-new-tokens 20",
    "- decode kv.h5 --ids --append --max-new-tokens 70", "4 decode kv.h5 --ids --max-new-tokens 5", "2 verify kv.h5")
row("decode", "append beyond the room, f16 cache", "small",
    f"{PROMPT} {F32} --kv-dtype f16 --reserve 0", "2 decode kv.h5 --ids --append --max-new-tokens 40")
row("decode", "append in bf16, 5 ranks", "small",
    f"{PROMPT} {BF16} --save-hidden", "5 decode kv.h5 --tokens [203:240] --ids --append --max-new-tokens 70")
row("decode", "drawn", "small",
    f"{PROMPT} {F32}", "- decode kv.h5 --ids --temperature 1.5 --seed 11 --max-new-tokens 40",
    "3 decode kv.h5 --ids --temperature 0.8 --top-p 0.9 --seed 12 --append --max-new-tokens 40")
row("decode", "drawn in bf16", "qwen2",
    f"- prefill --tokens [0:205] {POWER} {BF16}",
    "2 decode kv.h5 --ids --temperature 3 --seed 7 --threads 2 --max-new-tokens 40")

row("score", "batch", "small", BATCH,
    f"3 score --batch batch.jsonl {POWER} {F32}", f"- score --batch batch.jsonl {POWER} {BF16}")
row("score", "5 ranks, hybrid, f16 keys", "small",
    f"5 score --tokens {LONG} {POWER} --full-per 1/2 --kv-dtype f16 {F32}",
    f"{EMULATED} 2 score --tokens {LONG} {POWER} {BF16}")
row("score", "wide", "wide",
    f"2 score --tokens [0:1613] --attention power {F32} --threads 2", f"- score --tokens [0:1613] {BF16}")
row("files", "prefill of a batch", "small", BATCH, f"2 prefill --batch batch.jsonl --out-dir made {POWER} {F32}",
    "- decode made/a.h5 --ids --max-new-tokens 5", f"2 prefill --batch batch.jsonl --out-dir made {POWER} {F32}")
row("files", "inspect, verify, export", "small", f"2 prefill --tokens [0:203] {POWER} {BF16} --save-hidden",
    "- inspect --json kv.h5", "2 verify kv.h5", "- export kv.h5 --out kv.safetensors")
row("files", "plan, pattern", "small",
    f"- plan --tokens 100000 --ranks 7 --nodes 2 {POWER} --full-layers 1 {BF16} --json",
    "- pattern --json --blocks 64")

KV = f"2 prefill --tokens [0:203] {POWER} {F32}"
row("refusal", "the output exists", "small", KV, f"2=2 prefill --tokens [0:203] {POWER} {F32}")
row("refusal", "a tensor is missing", "lacking", KV.replace("2 ", "2=3 ", 1))
row("refusal", "weights that are not finite", "not-finite", KV.replace("2 ", "2=3 ", 1))
row("refusal", "no such model", "none", "write ids 1 2 3\n", f"2=3 prefill --tokens ids {POWER}")
row("refusal", "a token beyond the vocabulary", "small",
    "write ids 1 2 3 64\n", f"3=3 prefill --tokens ids {POWER} {F32}",
    "write ids 1 2 x\n", f"-=3 score --tokens ids {POWER} {F32}")
row("refusal", "an empty prompt", "small", f"2=3 prefill --tokens [0:0] {POWER} {F32}")
row("refusal", "an unknown option", "small",
    f"2=2 prefill --tokens [0:203] {POWER} --no-such 1", "-=2 decode kv.h5 --no-such")
row("refusal", "an unknown pattern", "small", "2=2 prefill --tokens [0:203] --attention none")
row("refusal", "full layers beyond the model", "small", f"2=2 prefill --tokens [0:203] {POWER} --full-layers 0,3",
    f"-=2 prefill --tokens [0:203] {POWER} --full-per 3/2")
row("refusal", "a damaged row", "small", KV, "damage kv.h5 layers/0001/value",
    "2=4 decode kv.h5 --ids", "2=4 verify kv.h5",
    f"2=4 prefill --tokens {LONG} {POWER} {F32} --prefix kv.h5 --out new.h5")
row("refusal", "a damaged commit", "small", KV, "damage kv.h5 commit 1", "-=4 decode kv.h5 --ids", "-=4 inspect kv.h5")
row("refusal", "half of a file", "small", KV, "cut kv.h5", "-=4 decode kv.h5 --ids", "2=4 verify kv.h5")
row("refusal", "the cache of another model", "small", KV, "2=4 decode kv.h5 --ids --model other",
    f"2=4 prefill --tokens {LONG} {POWER} {F32} --resume --model other")
row("refusal", "append with other numerics", "small", KV, f"2=4 decode kv.h5 --ids --append {BF16}")
row("refusal", "resume of another schedule or prompt", "small", KV, f"2=4 prefill --tokens {LONG} {B} {F32} --resume",
    f"2=4 prefill --tokens [0:613!50] {POWER} {F32} --resume", f"2=4 prefill --tokens {LONG} {POWER} {BF16} --resume")
row("refusal", "prefix of another schedule", "small", KV,
    f"2=4 prefill --tokens {LONG} {B} {F32} --prefix kv.h5 --out new.h5")
row("refusal", "no folder for the output", "small", f"2=5 prefill --tokens [0:203] {POWER} --out no/such/kv.h5")

TIMED = Spec(family="llama", dtype="bf16", hidden=512, layers=8, heads=8, kv_heads=2, head_dim=64, feed_forward=1408,
             vocabulary=4096)
TIMES = [  # name, options of prefill, None or options of decode
    (f"{compute} {name}", f"{tokens} --attention {attention} --compute {compute}", decode)
    for compute in ("f32", "bf16")
    for name, tokens, attention, decode in (("prefill 2K full", "[0:2048]", "full", None),
                                            ("prefill 8K power", "[0:8192]", "power", None),
                                            ("decode at 8K power", "[0:8192]", "power", "--max-new-tokens 128"))]

# Of a report: what is a result, and what is only worth knowing.
COUNTS = ("tokens", "computed_tokens", "resumed_from", "reused_tokens", "chunk_tokens", "chunks", "ranks", "threads",
          "attention", "compute", "kv_dtype", "cached_tokens", "input_tokens", "new_tokens")
TRAFFIC = ("numerics", "bytes_received", "bytes_read", "cache_bytes")
TEXTS_OF_A_BUILD = ("writer", "numerics")


class NotAsMeant(Exception):
    """The table is wrong, or the machine."""


class Inputs:
    """Models and token files, made once when they are first asked for. Threads may share it."""

    def __init__(self, folder):
        self.folder = folder
        self.folder.mkdir()
        self.lock = threading.Lock()

    def model(self, name):
        if name in FAMILIES:
            return RECORDED / name
        path = ROOT / "data/model" if name == "embedded" else self.folder / name
        with self.lock:
            if name in MADE and not path.exists():
                spec, change = MADE[name]
                write_checkpoint(path, spec, change=change)
        return path

    def tokens(self, model, begin, end, changed):
        config = self.model(model) / "config.json"
        vocabulary = json.loads(config.read_text())["vocab_size"]
        path = self.folder / f"{model}-{begin}-{end}-{changed}.npy"
        with self.lock:
            if not path.exists():
                ids = np.random.default_rng(5).integers(0, vocabulary, end).astype(np.int32)
                if changed is not None:
                    ids[changed:] = (ids[changed:] + 1) % vocabulary
                np.save(path, ids[begin:end])
        return path

    def prompt(self):
        path = self.folder / "prompt.txt"
        with self.lock:
            if not path.exists():
                path.write_bytes((ROOT / "data/prompt.txt").read_bytes()[:3000])
        return path

    def word(self, word, model):
        if range_of := re.fullmatch(r"\[(\d+):(\d+)(?:!(\d+))?\]", word):
            return str(self.tokens(model, *(None if n is None else int(n) for n in range_of.groups())))
        return str(self.prompt()) if word == "{prompt}" else word


@dataclasses.dataclass
class Command:
    """One of a row, ready to be run by either build in its folder."""

    environment: dict
    ranks: int
    code: int
    words: list

    def run(self, binary, folder):
        with folder_of_job(self.ranks) as own:
            return self.run_in({**os.environ, **own, **self.environment}, binary, folder)

    def run_in(self, environment, binary, folder):
        process = subprocess.Popen([*launcher(self.ranks), str(binary), *self.words], cwd=folder, env=environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   start_new_session=True)
        try:
            out, errors = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            end_launcher(process)
            return None, "", f"no end after {PATIENCE} s"
        return process.returncode, out.decode(errors="replace"), errors.decode(errors="replace")


def parse(step, model, inputs):
    """A step that is a command."""
    words = shlex.split(step)
    environment = {}
    while "=" in words[0] and words[0][0].isupper():
        name, value = words.pop(0).split("=", 1)
        environment[name] = value
    ranks, _, code = words.pop(0).partition("=")
    subcommand = words[0]

    def default(*text):
        if text[0] not in words:
            words.extend(map(str, text))
    if subcommand in ("prefill", "decode", "score", "plan"):
        default("--model", model)
        at = words.index("--model") + 1
        words = [inputs.word(word, model) for word in words]
        words[at] = str(inputs.model(words[at]))
    if subcommand in ("prefill", "decode", "score"):
        default("--threads", 1)
        default("--quiet")
    if subcommand in ("prefill", "decode"):
        default("--report", "report.json")
    if subcommand == "prefill" and "--out-dir" not in words:
        default("--out", "kv.h5")
    if subcommand == "score":
        default("--nll", "nll.json")
    return Command(environment, 0 if ranks == "-" else int(ranks), int(code or 0), words)


def raw_dataset(dataset, file_bytes):
    """As it lies in the file: bytes of shape (*shape, size of an item)."""
    size = dataset.id.get_type().get_size()
    if (offset := dataset.id.get_offset()) is not None:
        content = np.array(file_bytes[offset:offset + dataset.size * size])
    else:
        content = np.frombuffer(np.ascontiguousarray(dataset[()]).tobytes(), np.uint8)
    return content.reshape(*dataset.shape, -1)


def commits(rows):
    """The records but for what the generation goes into."""
    records = [struct.unpack("<8Q", row[:64].tobytes()) for row in rows]
    return np.array([(words[0], *words[2:6]) for words in records], np.uint64)


def attributes_of(item):
    return {name: (str(item.attrs.get_id(name).dtype), np.asarray(item.attrs[name]).tobytes()) for name in item.attrs}


def read_cache(path):
    """({name: rows of bytes that are committed}, {name: other properties}) of a cache file."""
    contents, properties = {}, {}
    with h5py.File(path, "r") as file:
        file_bytes = np.memmap(path, np.uint8, "r")
        record = newest_record(file)
        _, tokens, values, sums = record or (0, 0, 0, 0)
        blocks = -(-tokens // int(file.attrs["block_tokens"]))
        capacity = int(file.attrs["capacity"])
        for name, value in attributes_of(file).items():
            if name != "generation":
                properties[f"attribute {name}"] = value

        def visit(name, item):
            properties[f"attributes of {name}"] = attributes_of(item)
            if not isinstance(item, h5py.Dataset):
                return
            kind = item.id.get_type()
            properties[f"type of {name}"] = (str(item.dtype), kind.get_size(), kind.get_class())
            properties[f"shape of {name}"] = item.shape
            raw = raw_dataset(item, file_bytes)
            base = name.rsplit("/", 1)[-1]
            if base == "commit":
                raw = commits(raw)
            elif base == "checksums":
                raw = raw[sums][..., :blocks, :]
            elif base == "hidden_checksums":
                raw = raw[sums][:blocks]
            elif base in ("logits", "hidden"):
                raw = raw[values]
            elif item.shape[:1] == (capacity,):
                raw = raw[:tokens]
            contents[name] = np.ascontiguousarray(raw).view(np.uint8).reshape(len(raw), -1)
        file.visititems(visit)
    return contents, properties


def generation_of(path):
    """As it is written in texts; None of what is no cache."""
    try:
        with h5py.File(path, "r") as file:
            return f"{int(file.attrs['generation']):016x}"
    except (OSError, KeyError):
        return None


@dataclasses.dataclass
class Findings:
    """Of one comparison."""

    different: list = dataclasses.field(default_factory=list)
    also: list = dataclasses.field(default_factory=list)
    datasets: int = 0
    size: int = 0  # bytes compared

    def compare(self, what, before, after):
        if before != after:
            self.different.append(f"{what}: {short(before)} -> {short(after)}")


def short(value):
    is_text = isinstance(value, tuple) and isinstance(value[-1], bytes)
    text = value[-1].decode(errors="replace").strip("\0") if is_text else str(value)
    return text if len(text) <= 100 else text[:97] + "..."


def compare_caches(before, after, findings, name="cache"):
    """What two cache files, which may be damaged, differ in; added to `findings`."""
    read = []
    for path in (before, after):
        try:
            read.append(read_cache(path))
        except (OSError, KeyError, ValueError) as error:  # h5py cannot
            read.append(({}, {"cannot be read": type(error).__name__, "size": path.stat().st_size}))
    (rows, properties), (other_rows, other_properties) = read
    for key in sorted({*properties, *other_properties}):
        pair = properties.get(key), other_properties.get(key)
        if pair[0] != pair[1] and key.removeprefix("attribute ") in TEXTS_OF_A_BUILD:
            findings.also.append(f"{name} {key}: {short(pair[0])} -> {short(pair[1])}")
        else:
            findings.compare(f"{name} {key}", *pair)
    for key in sorted({*rows, *other_rows}):
        a, b = rows.get(key), other_rows.get(key)
        if a is None or b is None:
            findings.different.append(f"{name} {key}: only {'after' if a is None else 'before'}")
        elif a.shape != b.shape:
            findings.different.append(f"{name} {key}: {len(a)} rows -> {len(b)} rows")
        else:
            findings.datasets += 1
            findings.size += a.nbytes
            unlike = np.flatnonzero((a != b).any(axis=1))
            if len(unlike):
                findings.different.append(f"{name} {key}: {len(unlike)} of {len(a)} rows, first {unlike[0]}")


def compare_lines(before, after, findings, name):
    """Of files with a JSON object a line: each value as it is written, but for seconds."""
    both = [[json.loads(line, parse_float=str) for line in path.read_text().splitlines()] for path in (before, after)]
    findings.compare(f"lines of {name}", *map(len, both))
    for number, (a, b) in enumerate(zip(*both), 1):
        for key in sorted({*a, *b} - {"wall_s"}):
            x, y = a.get(key), b.get(key)
            if isinstance(x, list) and isinstance(y, list) and len(x) == len(y):
                findings.size += 4 * len(x)
                unlike = [i for i, (u, v) in enumerate(zip(x, y)) if u != v]
                if unlike:
                    first = unlike[0]
                    findings.different.append(f"{name} line {number} {key}: {len(unlike)} of {len(x)}, first {first}: "
                                              f"{x[first]} -> {y[first]}")
            else:
                findings.compare(f"{name} line {number} {key}", x, y)


def files_of(folder):
    """{name without numbers of processes: path} of the files made."""
    return {re.sub(r"\.\d+\.partial$", ".N.partial", str(path.relative_to(folder))): path
            for path in sorted(folder.rglob("*")) if path.is_file()}


def compare_files(before, after, findings):
    """Of two folders."""
    ours, theirs = files_of(before), files_of(after)
    findings.compare("files", sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours)))
    for name in sorted(set(ours) & set(theirs)):
        pair = ours[name], theirs[name]
        if name.endswith(".h5"):
            compare_caches(*pair, findings, name)
        elif name == "report.json":
            reports = [json.loads(path.read_text()) for path in pair]
            for key in COUNTS:
                findings.compare(f"report {key}", *(report.get(key) for report in reports))
            for key in TRAFFIC:
                if reports[0].get(key) != reports[1].get(key):
                    findings.also.append(f"report {key}: {short(reports[0].get(key))} -> {short(reports[1].get(key))}")
        elif name.startswith("nll.json"):
            compare_lines(*pair, findings, name)
        else:
            texts = [without_generations(path.read_bytes().decode("latin-1"), folder)
                     for path, folder in zip(pair, (before, after))]
            findings.size += len(texts[0])
            if texts[0] != texts[1]:
                findings.different.append(name)


def without_generations(text, folder):
    """And without the seconds that some commands print."""
    for path in folder.rglob("*.h5"):
        if generation := generation_of(path):
            text = text.replace(generation, "GENERATION")
    return re.sub(r"\d[\d.]* (s|[KMGT]?i?B/s)\b", "TIME", text)


def message(errors):
    """What powerprefill says, without who says it."""
    lines = [line for line in errors.splitlines() if re.match("powerprefill: (error|warning|note)", line)]
    return re.sub(r" on rank \d+ \(host [^)]*\)", "", " / ".join(sorted(set(lines))))


def as_meant(step, folders, findings):
    """What only one build has is a difference."""
    signs = {"=": lambda found, value: str(found) == value, ">": lambda found, value: found > int(value),
             "~": lambda found, value: str(found).startswith(value)}
    for condition in shlex.split(step)[1:]:
        key, sign, value = re.fullmatch(r"(\w+)([=>~])(.*)", condition).groups()
        found = [json.loads((folder / "report.json").read_text())[key] for folder in folders]
        good = [signs[sign](one, value) for one in found]
        if not any(good):
            raise NotAsMeant(f"report {key}: {found[0]}, meant was {condition}")
        if not all(good):
            findings.compare(f"report {key}", *found)


def prepare(step, folders):
    """write, damage, cut: the same in both folders."""
    verb, name, *rest = step.split(" ", 2)
    for folder in folders:
        path = folder / name
        if verb == "write":
            path.write_text(rest[0])
        elif verb == "cut":
            os.truncate(path, path.stat().st_size // 2)
        else:
            dataset, _, row_number = rest[0].partition(" ")
            flip(path, dataset, int(row_number or 0))


def flip(path, name, row=0, bit=0x10):
    """Changes a bit in the middle of a row of a dataset, or in a record's sequence number."""
    with h5py.File(path, "r") as file:
        dataset = file[name]
        row_size = dataset.id.get_storage_size() // len(dataset)
        at = dataset.id.get_offset() + row * row_size + (20 if name == "commit" else row_size // 2)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ bit]))


def compare_step(step, model, inputs, builds, folders, findings):
    verb = step.split(" ", 1)[0]
    if verb in ("write", "damage", "cut"):
        return prepare(step, folders)
    if verb == "meant":
        return as_meant(step, folders, findings)
    command = parse(step, model, inputs)
    for folder in folders:
        for name in ("report.json", "nll.json"):
            (folder / name).unlink(missing_ok=True)
    results = [command.run(build, folder) for build, folder in zip(builds, folders)]
    codes = [result[0] for result in results]
    if codes[0] == codes[1] != command.code:
        raise NotAsMeant(f"`{shlex.join(command.words)}` ended with {codes[0]} in both builds, meant was "
                         f"{command.code}: {results[0][2][-1000:]}")
    findings.compare("exit code", *codes)
    outputs = [without_generations(result[1], folder) for result, folder in zip(results, folders)]
    if outputs[0] != outputs[1]:
        findings.different.append(f"printed: {short(outputs[0])!r} -> {short(outputs[1])!r}")
    if command.code == 0 and codes == [0, 0]:
        made = {"prefill": "report.json", "decode": "report.json", "score": "nll.json"}.get(command.words[0])
        for folder in folders:
            if made and not (folder / made).exists():
                raise NotAsMeant(f"`{shlex.join(command.words)}` made no {made} in {folder.name}")
    messages = [message(result[2]) for result in results]
    if messages[0] != messages[1]:
        findings.also.append(f"message: {messages[0]} -> {messages[1]}")
    compare_files(*folders, findings)


def compare_setting(setting, inputs, builds, folder):
    """(findings, None or why it did not run as meant)."""
    _, _, model, steps = setting
    findings = Findings()
    folders = [folder / "before", folder / "after"]
    for path in folders:
        path.mkdir(parents=True)
    for number, step in enumerate(steps, 1):
        found = Findings()
        failure = None
        try:
            compare_step(step, model, inputs, builds, folders, found)
        except NotAsMeant as error:
            failure = str(error)
        at = f"step {number} ({' '.join(re.sub(r'^([A-Z_]+=[^ ]* )*', '', step.strip()).split()[:2])}): "
        findings.different += [at + text for text in found.different]
        findings.also += [text for text in found.also if text not in findings.also]
        findings.datasets += found.datasets
        findings.size += found.size
        if failure is not None:
            return findings, at + failure
        if found.different:
            break  # what follows is made of it
    return findings, None


def compare_all(settings, builds, folder, jobs):
    """Prints a line each, and returns the exit code."""
    inputs = Inputs(folder / "inputs")
    begin = time.monotonic()
    width = max(len(f"{kind}: {name}") for kind, name, _, _ in settings)
    different, failed, also, datasets, size = 0, 0, 0, 0, 0
    with ThreadPoolExecutor(jobs) as pool:
        def work(numbered):
            number, setting = numbered
            return compare_setting(setting, inputs, builds, folder / f"{number:03}")
        for (kind, name, _, _), (findings, failure) in zip(settings, pool.map(work, enumerate(settings))):
            if findings.different:
                more = len(findings.different) - 6
                text = "DIFFERENT: " + "; ".join(findings.different[:6]) + (f"; and {more} more" if more > 0 else "")
            else:
                text = "same" if failure is None else f"NOT AS MEANT: {failure}"
            print(f"{f'{kind}: {name}':{width}}  {text}", flush=True)
            for line in findings.also:
                print(f"{'':{width}}    also {line}", flush=True)
            different += bool(findings.different)
            failed += failure is not None and not findings.different
            also += bool(findings.also)
            datasets += findings.datasets
            size += findings.size
    print(f"{len(settings)} settings: {len(settings) - different - failed} same, {different} different, "
          f"{failed} not as meant; {also} with other findings; {datasets} datasets, {size / 1e6:.1f} MB compared in "
          f"{time.monotonic() - begin:.0f} s")
    return 1 if different else 2 if failed else 0


def seconds_of(step, key, inputs, build, folder):
    command = parse(step, "timed", inputs)
    code, _, errors = command.run(build, folder)
    if code != 0:
        raise NotAsMeant(f"`{shlex.join(command.words)}` ended with {code}: {errors[-1000:]}")
    return json.loads((folder / "report.json").read_text())[key]


def compare_times(only, builds, folder, rounds, ranks, threads):
    MADE["timed"] = (TIMED, None)
    inputs = Inputs(folder / "inputs")
    folders = [folder / "before", folder / "after"]
    for path in folders:
        path.mkdir()
    if (load := os.getloadavg()[0]) > 0.3:
        print(f"note: something else runs here, or did a moment ago (load {load:.1f})", flush=True)
    print(f"{'seconds, medians':24}  before   after  after/before: median (least to most of {rounds} pairs)",
          flush=True)
    for name, prefill, decode in TIMES:
        if not re.search(only, name):
            continue
        step, key = f"{ranks or '-'} prefill --tokens {prefill} --threads {threads} --force", "wall_s"
        if decode:
            for build, path in zip(builds, folders):
                seconds_of(step, key, inputs, build, path)  # of the cache that is read
            step, key = f"{ranks or '-'} decode kv.h5 --ids {decode} --threads {threads}", "decode_s"
        pairs = []
        for number in range(rounds + 1):
            pair = [0.0, 0.0]
            for side in ((0, 1), (1, 0))[number % 2]:
                pair[side] = seconds_of(step, key, inputs, builds[side], folders[side])
            if number > 0:  # the first warms up
                pairs.append(pair)
        before, after = (statistics.median(side) for side in zip(*pairs))
        ratios = [after_s / before_s for before_s, after_s in pairs]
        print(f"{name:24} {before:7.3f} {after:7.3f}  {statistics.median(ratios):.3f} "
              f"({min(ratios):.3f} to {max(ratios):.3f})", flush=True)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("before", type=Path, help="a powerprefill binary")
    parser.add_argument("after", type=Path, help="another")
    parser.add_argument("--only", default="", metavar="REGEX", help="settings whose `kind: name` has this")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1),
                        help="settings at once (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this new folder, and leave it")
    parser.add_argument("--list", action="store_true", help="print the settings instead, with their commands")
    parser.add_argument("--times", action="store_true", help="compare seconds instead")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs with --times (default: %(default)s)")
    parser.add_argument("--ranks", type=int, default=0, help="with --times (default: no mpirun)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(),
                        help="with --times, per rank (default: %(default)s)")
    arguments = parser.parse_args()
    settings = [setting for setting in TABLE if re.search(arguments.only, f"{setting[0]}: {setting[1]}")]
    if arguments.list:
        for kind, name, model, steps in settings:
            print(f"{kind}: {name} [{model}]", *(step.strip() for step in steps), sep="\n    ")
        return 0
    if not settings and not arguments.times:
        parser.error(f"no setting has {arguments.only!r}")
    if arguments.rounds < 1 or arguments.jobs < 1:
        parser.error("--rounds and --jobs are at least 1")
    builds = [path.resolve() for path in (arguments.before, arguments.after)]
    for path in builds:
        if not os.access(path, os.X_OK) or path.is_dir():
            parser.error(f"{path} is no program")
    with contextlib.ExitStack() as stack:
        if arguments.keep:
            folder = arguments.keep.resolve()
            if folder.exists():
                parser.error(f"{folder} exists")
            folder.mkdir(parents=True)
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="powerprefill-builds-")))
        if not arguments.times:
            return compare_all(settings, builds, folder, arguments.jobs)
        try:
            return compare_times(arguments.only, builds, folder, arguments.rounds, arguments.ranks, arguments.threads)
        except NotAsMeant as error:
            print(error, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
