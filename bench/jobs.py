#!/usr/bin/env python3
"""Times whole jobs of the program on random models of real shapes, and prints the harness's CSV.

  bench/jobs.py prefill  [--lengths 2048,8192] [--attention power,full] [--compute f32,bf16]
  bench/jobs.py scaling  [--lengths 32768] [--layout 1x1,2x1,4x1,4x4]    ranks x threads
  bench/jobs.py restore  [--lengths 8192,32768]    a new prefill against opening the saved cache
  bench/jobs.py decode   [--lengths 131072] [--attention power,full]
  bench/jobs.py overlap  [--lengths 16384] [--layout 2x1,4x1] [--link 100mbit]    bench_overlap

Models, prompts and caches are made in --folder. Rates of the matrix products come from bench_gemm, with as
many threads as the job has, right before and after it."""

import argparse
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from support import needs  # noqa: E402

needs.modules("numpy")
import numpy as np  # noqa: E402

from support.checkpoint import MPIRUN, Spec, launcher, write_checkpoint  # noqa: E402

SHAPES = {
    "tiny": dict(vocabulary=2048, hidden=64, layers=2, heads=2, kv_heads=1, head_dim=32, feed_forward=128),
    "qwen2-0.5b": dict(vocabulary=32000, hidden=896, layers=24, heads=14, kv_heads=2, head_dim=64,
                       feed_forward=4864),
    "qwen2-7b": dict(vocabulary=2048, hidden=3584, layers=1, heads=28, kv_heads=4, head_dim=128,
                     feed_forward=18944),
    "llama-8b": dict(vocabulary=2048, hidden=4096, layers=1, heads=32, kv_heads=8, head_dim=128,
                     feed_forward=14336),
}


class RandomSpec(Spec):
    """Random weights, quickly: one block of numbers, repeated."""

    def tensors(self):
        random = np.random.default_rng(self.seed)
        pool = random.standard_normal(1 << 22).astype(np.float32)
        tensors = {}
        for name, shape in self.shapes().items():
            values = np.resize(np.roll(pool, random.integers(pool.size)), shape)
            if name.endswith("norm.weight"):
                values = 1 + 0.1 * values
            elif len(shape) == 2 and "embed" not in name:
                values = values / np.sqrt(shape[1])
            tensors[name] = values.astype(np.float32)
        return tensors


def csv(bench, case, quantity, value, unit):
    print(f"{bench},{case},{quantity},{value:.6g},{unit}", flush=True)


class Bench:
    def __init__(self, arguments):
        self.a = arguments
        self.build = pathlib.Path(arguments.build).absolute()
        needs.programs("build it first: cmake --preset release && cmake --build --preset release",
                       *(self.build / name for name in ("powerprefill", "bench/bench_gemm", "bench/bench_overlap")))
        self.folder = pathlib.Path(arguments.folder or tempfile.mkdtemp(prefix="bench-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model = self.folder / f"{arguments.shape}-{arguments.layers or ''}"
        if not self.model.exists():
            shape = dict(SHAPES[arguments.shape])
            if arguments.layers:
                shape["layers"] = arguments.layers
            write_checkpoint(self.model, RandomSpec(dtype="bf16", tied=True, **shape))

    def gemm_rates(self, cores):
        """GFLOP/s of one thread while `cores` do the same: {"f32": sgemm, "bf16": packed product}."""
        lines = subprocess.run([self.build / "bench/bench_gemm", "0.1", str(cores)], text=True, check=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.splitlines()
        rates = {row[1]: float(row[3]) for row in (line.split(",") for line in lines)}
        return {"f32": rates["sgemm 1024^3"],
                "bf16": max([rate for name, rate in rates.items() if name.startswith("bf16 oneDNN")], default=0.0)}

    def tokens(self, count):
        path = self.folder / f"tokens-{count}.npy"
        if not path.exists():
            np.save(path, np.random.default_rng(1).integers(0, 2000, count).astype(np.int32))
        return path

    def run(self, words, ranks):
        report = self.folder / "report.json"
        command = [*launcher(ranks, self.a.mpirun), str(self.build / "powerprefill"), *map(str, words),
                   "--report", str(report), "--quiet", "--model", str(self.model)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return json.loads(report.read_text())

    def prefill(self, length, attention, compute, ranks, threads, out="kv.h5", options=()):
        return self.run(["prefill", "--tokens", self.tokens(length), "--out", self.folder / out, "--force",
                         "--attention", *attention.split(), "--compute", compute, "--threads", threads,
                         *shlex.split(self.a.options), *options], ranks)

    def repeated(self, *words, **more):
        """The run of median speed of --runs."""
        reports = [self.prefill(*words, **more) for _ in range(self.a.runs)]
        return sorted(reports, key=lambda r: r["tokens_per_s"])[len(reports) // 2]


def layouts(arguments):
    return [tuple(map(int, layout.split("x"))) for layout in arguments.layout.split(",")]


def useful_flops(bench, report):
    """Of linear layers and of causal pairs, per second."""
    zones = report["zones"]
    linear = sum(zones[z]["max"] for z in ("qkv", "attention_out", "mlp"))
    flops = report["gemm_gflops"] * linear + report["attention_gflops"] * zones["attention"]["max"]
    return flops / report["wall_s"]


def prefill(bench):
    a = bench.a
    for ranks, threads in layouts(a):
        for compute in a.compute.split(","):
            for length in map(int, a.lengths.split(",")):
                for attention in a.attention.split(","):
                    before = bench.gemm_rates(ranks * threads)
                    report = bench.repeated(length, attention, compute, ranks, threads)
                    after = bench.gemm_rates(ranks * threads)
                    kind = report["compute"]
                    limit = ranks * threads * statistics.mean((before[kind], after[kind]))
                    case = f"{a.shape} {kind} {attention} {length} {ranks}x{threads}"
                    rate = useful_flops(bench, report)
                    csv("prefill", case, "speed", report["tokens_per_s"], "tokens/s")
                    csv("prefill", case, "useful", rate, "GFLOP/s")
                    csv("prefill", case, "of gemm rate x cores", rate / limit, "ratio")
                    csv("prefill", case, "linear layers", report["gemm_gflops"], "GFLOP/s")
                    csv("prefill", case, "attention", report["attention_gflops"], "GFLOP/s")
                    csv("prefill", case, "attention zone", report["zones"]["attention"]["max"], "s")
                    csv("prefill", case, "wall", report["wall_s"], "s")


def scaling(bench):
    a = bench.a
    length = int(a.lengths.split(",")[0])
    first = None
    for ranks, threads in layouts(a):
        case = f"{a.shape} {a.compute} {a.attention} {length} {ranks}x{threads}"
        report = bench.repeated(length, a.attention, a.compute, ranks, threads)
        if first is None:
            first = (report["tokens_per_s"], ranks * threads)
        speedup = report["tokens_per_s"] / first[0]
        csv("scaling", case, "speed", report["tokens_per_s"], "tokens/s")
        csv("scaling", case, "efficiency", speedup * first[1] / (ranks * threads), "ratio")
        csv("scaling", case, "exchange wait", report["exchange_wait_s"], "s")
        csv("scaling", case, "wall", report["wall_s"], "s")


def restore(bench):
    a = bench.a
    ranks, threads = layouts(a)[0]
    for length in map(int, a.lengths.split(",")):
        case = f"{a.shape} {a.compute} {a.attention} {length} {ranks}x{threads}"
        report = bench.repeated(length, a.attention, a.compute, ranks, threads)
        words = ["decode", bench.folder / "kv.h5", "--max-new-tokens", 1, "--threads", threads]
        opened = sorted((bench.run(words, ranks) for _ in range(a.runs)),
                        key=lambda r: r["first_token_s"])[a.runs // 2]
        seconds = opened["first_token_s"] - opened["load_weights_s"]
        csv("restore", case, "prefill", report["wall_s"], "s")
        csv("restore", case, "open and first token", seconds, "s")
        csv("restore", case, "speed-up", report["wall_s"] / seconds, "ratio")


def decode(bench):
    a = bench.a
    ranks, threads = layouts(a)[0]
    for length in map(int, a.lengths.split(",")):
        seconds = {}
        for attention in a.attention.split(","):
            bench.prefill(length, attention, a.compute, ranks, threads)
            words = ["decode", bench.folder / "kv.h5", "--threads", threads, "--max-new-tokens"]
            # The first token comes from the cache; the first step reads what the pattern needs of it.
            first, report = (bench.run([*words, count], ranks) for count in (2, 34))
            steps = report["new_tokens"] - first["new_tokens"]
            seconds[attention] = (report["decode_s"] - first["decode_s"]) / max(1, steps)
            case = f"{a.shape} {a.compute} {attention} {length} {ranks}x{threads}"
            csv("decode", case, "first step", first["decode_s"] * 1e3, "ms")
            csv("decode", case, "step", seconds[attention] * 1e3, "ms")
            csv("decode", case, "bytes read", report["bytes_read"], "bytes")
            if attention != "full" and "full" in seconds:
                csv("decode", case, "of full", seconds[attention] / seconds["full"], "ratio")


def overlap(bench):
    """All ranks over one TCP link of --link, in a network namespace of their own, which needs root;
    without --link, as mpirun connects them."""
    a = bench.a
    for ranks, threads in layouts(a):
        for length in map(int, a.lengths.split(",")):
            for attention in a.attention.split(","):
                command = [*launcher(ranks, a.mpirun), str(bench.build / "bench/bench_overlap"),
                           str(bench.model), str(length), attention, str(threads), str(a.runs), str(bench.folder)]
                if a.link:
                    needs.programs("Debian's packages util-linux, iproute2 and procps have them", "unshare", "ip",
                                   "tc", "sysctl")
                    command[1:1] = ["--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo"]
                    limit = ("ip link set lo up; sysctl -qw net.ipv4.tcp_congestion_control=reno; tc qdisc replace "
                             f'dev lo root tbf rate {a.link} burst 256kb latency 100ms; exec "$@"')
                    command = ["unshare", "--net", "sh", "-c", limit, "sh", *command]
                subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def add_common_options(parser):
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--build", default=ROOT / "build")
    parser.add_argument("--folder", help="for models, prompts, caches and what is installed (default: a new one)")
    parser.add_argument("--options", default="", help="more options of prefill")
    parser.add_argument("--mpirun", default=MPIRUN, help="launches several ranks (%(default)s)")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", choices=["prefill", "scaling", "restore", "decode", "overlap"])
    parser.add_argument("--shape", default="qwen2-0.5b", choices=SHAPES)
    parser.add_argument("--layers", type=int, help="other than the shape's")
    parser.add_argument("--lengths", default="8192")
    parser.add_argument("--attention", default="power")
    parser.add_argument("--compute", default="auto")
    parser.add_argument("--layout", default=f"1x{os.cpu_count()}", help="ranks x threads, ...")
    add_common_options(parser)
    parser.add_argument("--link", help="overlap: rate of the link between the ranks, e.g. 100mbit")
    arguments = parser.parse_args()
    globals()[arguments.bench](Bench(arguments))


if __name__ == "__main__":
    main()
