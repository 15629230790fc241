#!/usr/bin/env python3
"""Times a prefill beside llama.cpp's: the same cores, model and tokens, in turns; prints the harness's CSV.

  bench/peers.py [--lengths 512,2048] [--types bf16,q4_0] [--attention power,full] [--layout 1x16]

llama.cpp comes as the npm package node-llama-cpp with its binaries, installed in --folder with npm, or
found in --llama. It runs the weights of our checkpoint as a GGUF file, in each of --types.

Checked first: the logits after a short prompt, under full attention, are those of llama.cpp.

Speeds are tokens over seconds, medians of --runs. Ours are from an open, empty cache file to the commit on
disk; theirs are from the first batch to the last, the cache stays in memory (f16), after one batch that is
not counted. Neither has loading. llama.cpp gets the best of --batches, --flash and --llama-threads; those
that are 10% behind the best in the first turn are dropped."""

import argparse
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]
from support import needs  # noqa: E402

needs.modules("numpy")
import numpy as np  # noqa: E402

import jobs  # noqa: E402
from gguf import FILE_TYPES, write_gguf  # noqa: E402
from jobs import csv  # noqa: E402
from support.checkpoint import read_raw_safetensors  # noqa: E402

VERSION = "3.22.1"  # of node-llama-cpp
PACKAGES = [f"node-llama-cpp@{VERSION}", f"@node-llama-cpp/linux-x64@{VERSION}"]
PROMPT = 300  # tokens of the check: more than a block and a batch
# Of the norm of the logits. bf16 has 2^-9, and 24 layers add; f16 sums of flash attention are like it.
TOLERANCE = {"f32": 2**-6, "f16": 2**-6, "bf16": 2**-6, "q4_0": 0.3}


class Llama:
    """llama.cpp in one process of node, which keeps the models that it has loaded."""

    def __init__(self, node, folder, models):
        self.models = models
        self.process = subprocess.Popen([node, str(HERE / "peers.mjs"), str(folder)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, action, **words):
        self.process.stdin.write(json.dumps({"action": action, **words}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"llama.cpp ended with {self.process.wait()} when asked for {action}")
        return json.loads(answer)

    def evaluate(self, action, kind, tokens, batch, flash, threads):
        return self.ask(action, model=str(self.models[kind]), tokens=tokens, room=len(tokens) + 8,
                        batch=batch, flash=flash == "on", threads=threads)

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def install(folder):
    """node_modules with llama.cpp's binaries; nothing is downloaded or built after that."""
    if not (folder / "node_modules").exists():
        subprocess.run(["npm", "install", "--prefix", folder, "--ignore-scripts", "--omit=optional",
                        "--no-audit", "--no-fund", *PACKAGES], check=True, stdout=sys.stderr)
    return folder


def our_logits(bench, compute, ranks, threads):
    """After the prompt of the check, under full attention."""
    bench.prefill(PROMPT, "full", compute, ranks, threads)
    exported = bench.folder / "kv.safetensors"
    subprocess.run([bench.build / "powerprefill", "export", bench.folder / "kv.h5", "--out", exported,
                    "--force"], check=True, stdout=subprocess.DEVNULL)
    header, data = read_raw_safetensors(exported)
    begin, end = header["logits"]["data_offsets"]
    return np.frombuffer(data[begin:end], "<f4")


def check(bench, llama, ranks, threads):
    """Ends the bench unless llama.cpp computes our function."""
    tokens = np.load(bench.tokens(PROMPT)).tolist()
    for compute in bench.a.compute.split(","):
        ours = our_logits(bench, compute, ranks, threads)
        for kind, flash in itertools.product(llama.models, bench.a.flash.split(",")):
            theirs = np.array(llama.evaluate("logits", kind, tokens, 128, flash, ranks * threads))
            error = np.linalg.norm(theirs - ours) / np.linalg.norm(ours)
            csv("peers", f"{compute} and llama.cpp {kind} flash {flash}", "logits apart", error, "of norm")
            if not error < TOLERANCE[kind]:
                sys.exit(f"llama.cpp {kind} computes something else")
            if kind != "q4_0" and theirs.argmax() != ours.argmax():
                sys.exit(f"llama.cpp {kind} goes on with another token")


def in_turns(bench, llama, length, ranks, threads):
    """Speeds by candidate: (compute, attention) of ours, (type, batch, flash, threads) of theirs."""
    a = bench.a
    tokens = np.load(bench.tokens(length)).tolist()
    thread_counts = map(int, (a.llama_threads or str(ranks * threads)).split(","))
    batches = sorted({min(int(batch), length) for batch in a.batches.split(",")})
    ours = {key: [] for key in itertools.product(a.compute.split(","), a.attention.split(","))}
    theirs = {key: [] for key in itertools.product(llama.models, batches, a.flash.split(","), thread_counts)}
    for turn in range(a.runs):
        for (compute, attention), speeds in ours.items():
            speeds.append(bench.prefill(length, attention, compute, ranks, threads)["tokens_per_s"])
        for (kind, batch, flash, count), speeds in theirs.items():
            speeds.append(length / llama.evaluate("seconds", kind, tokens, batch, flash, count))
        if turn == 0:
            best = {kind: max(s[0] for key, s in theirs.items() if key[0] == kind) for kind in llama.models}
            theirs = {key: speeds for key, speeds in theirs.items() if speeds[0] > 0.9 * best[key[0]]}
    return ({key: statistics.median(speeds) for key, speeds in ours.items()},
            {key: statistics.median(speeds) for key, speeds in theirs.items()})


def compare(bench, llama, length, ranks, threads):
    shape = f"{bench.a.shape} {length}"
    ours, theirs = in_turns(bench, llama, length, ranks, threads)
    for (compute, attention), speed in ours.items():
        csv("peers", f"{shape} {compute} {attention} {ranks}x{threads}", "speed", speed, "tokens/s")
    for kind in llama.models:
        key = max((key for key in theirs if key[0] == kind), key=theirs.get)
        best = "{} batch {} flash {} threads {}".format(*key)
        csv("peers", f"{shape} llama.cpp {best}", "speed", theirs[key], "tokens/s")
        for (compute, attention), speed in ours.items():
            csv("peers", f"{shape} {compute} {attention} over llama.cpp {kind}", "speed", speed / theirs[key],
                "ratio")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="512,2048")
    parser.add_argument("--types", default="bf16,q4_0", help=f"of llama.cpp's weights: {','.join(FILE_TYPES)}")
    parser.add_argument("--attention", default="power,full", help="ours; theirs is full")
    parser.add_argument("--compute", default="auto", help="ours: auto, f32, bf16")
    parser.add_argument("--layout", default=f"1x{os.cpu_count()}", help="ours: ranks x threads")
    parser.add_argument("--batches", default="512,2048", help="theirs")
    parser.add_argument("--flash", default="on,off", help="theirs: flash attention")
    parser.add_argument("--llama-threads", help="theirs (default: as many as the layout has)")
    jobs.add_common_options(parser)
    parser.add_argument("--node", default="node", help="the program")
    parser.add_argument("--llama", help="a folder with node_modules, instead of an installation")
    parser.set_defaults(shape="qwen2-0.5b", layers=None)
    arguments = parser.parse_args()
    needs.programs("node-llama-cpp needs node 20 or later, newer than Debian 12's, with npm", arguments.node,
                   *([] if arguments.llama else ["npm"]))
    bench = jobs.Bench(arguments)
    [(ranks, threads)] = jobs.layouts(bench.a)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:ranks * threads])

    models = {kind: bench.folder / f"{bench.a.shape}-{kind}.gguf" for kind in bench.a.types.split(",")}
    for kind, path in models.items():
        if not path.exists():
            write_gguf(path, bench.model, kind)
    packages = pathlib.Path(bench.a.llama) if bench.a.llama else install(bench.folder / "llama")
    llama = Llama(bench.a.node, packages, models)
    about = llama.ask("about")
    print("llama.cpp {release} (node-llama-cpp {version}), {variants[0]}: {features}".format(**about),
          file=sys.stderr)
    check(bench, llama, ranks, threads)
    for length in map(int, bench.a.lengths.split(",")):
        compare(bench, llama, length, ranks, threads)
    llama.end()


if __name__ == "__main__":
    main()
