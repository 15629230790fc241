"""How jobs start: ranks that are launched unlike each other, environments without a launcher, programs
one after the other, limits of the system, and signals."""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.checkpoint import Spec, binary, launcher, run, start, write_checkpoint  # noqa: E402

MODEL = Spec(layers=2)
MPIRUN = launcher(1)[:-2]  # without the number of ranks


class Launch(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.scratch.name)
        cls.model = write_checkpoint(cls.folder / "model", MODEL)
        np.save(cls.folder / "ids.npy", np.arange(40, dtype=np.int32) % MODEL.vocabulary)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def out(self, name="kv.h5"):
        path = self.folder / f"{self._testMethodName}-{name}"
        path.unlink(missing_ok=True)
        return path

    def prefill(self, *more, model=None):
        return ["prefill", "--model", model or self.model, "--tokens", self.folder / "ids.npy",
                "--block", 16, "--out", self.out(), *more]

    def contexts(self, *contexts, environment=None, timeout=60):
        """mpirun with several contexts, each (options of mpirun, command before the program, arguments)."""
        command = list(MPIRUN)
        for number, (options, before, arguments) in enumerate(contexts):
            command += ([":"] if number else []) + [*options, *before, str(binary())]
            command += [str(word) for word in arguments]
        return subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=timeout,
                              env={**os.environ, **(environment or {})})

    def expect(self, result, code, *texts):
        self.assertEqual(result.returncode, code, result.stderr[-3000:])
        for text in texts:
            self.assertIn(text, result.stderr)

    # Ranks that differ -----------------------------------------------------------------------------

    def test_ranks_that_are_bound_unlike_each_other(self):
        """All take the same steps: the cores of a rank are asked for by all ranks, or by none."""
        if os.cpu_count() < 2:
            self.skipTest("needs 2 cores")
        for arguments in (["doctor"], self.prefill(), ["score", "--model", self.model, "--tokens",
                                                       self.folder / "ids.npy"]):
            result = self.contexts((["-np", 1], ["taskset", "-c", "0"], arguments),
                                   (["-np", 2], [], arguments))
            self.expect(result, 0)

    def test_a_rank_that_alone_cannot_start_says_why(self):
        result = self.contexts((["-np", 1], [], ["doctor"]), (["-np", 1], [], ["doctr"]))
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn("subcommand", result.stderr)

    def test_other_arguments_are_told(self):
        result = self.contexts((["-np", 1], [], self.prefill()),
                               (["-np", 1], [], self.prefill("--reserve", 7)))
        self.expect(result, 6, "differ in their command line", "on rank 1 (host ")

    def test_checkpoints_that_differ_are_told(self):
        """Also by commands that make no file, and where a layer is missing."""
        power = {"power_attention": {"pattern": "power", "block": 16}}
        others = {
            "config.json": dict(spec=Spec(layers=1)),
            "attention": dict(config=power),
        }
        for what, other in others.items():
            with tempfile.TemporaryDirectory() as scratch:
                hosts = [Path(scratch) / "a", Path(scratch) / "b"]
                for host, arguments in zip(hosts, ({}, other)):
                    host.mkdir()
                    write_checkpoint(host / "model", **{"spec": MODEL, **arguments})
                for command in ("score", "prefill"):
                    arguments = [command, "--model", "model", "--tokens", self.folder / "ids.npy"]
                    arguments += ["--out", self.out()] if command == "prefill" else []
                    result = self.contexts((["-np", 2, "-wdir", hosts[0]], [], arguments),
                                           (["-np", 1, "-wdir", hosts[1]], [], arguments))
                    self.expect(result, 3, f"differ in their {what}", "on rank 2 (host ",
                                "on rank 0 (host ")
                    self.assertNotIn("perplexity", result.stdout)

    def test_one_compute_type_for_the_job(self):
        """auto is decided once, also where ranks are allowed to compute other bits."""
        version = run(["version"]).stdout
        if "numerics bf16;" not in version:
            self.skipTest("this CPU has no bf16 instructions")
        mixed = (["-np", 1], [], self.prefill("--allow-mixed-numerics", "--report",
                                              self.out("report.json")))
        plain = (["-np", 1], ["env", "DNNL_MAX_CPU_ISA=AVX2"], mixed[2])
        self.expect(self.contexts(mixed, plain), 0)
        report = json.loads(next(self.folder.glob(f"{self._testMethodName}-report.json")).read_text())
        self.assertEqual(report["compute"], "f32")
        # A library that is told to do without bf16 is no reason to fail.
        result = run(self.prefill(), environment={"DNNL_MAX_CPU_ISA": "AVX2"})
        self.assertEqual(result.code, 0, result)
        info = run(["inspect", "--json", self.folder / f"{self._testMethodName}-kv.h5"])
        self.assertEqual(json.loads(info.stdout)["compute"], "f32", info)

    def test_numerics_that_differ_are_told(self):
        cores = [(["-np", 1], ["env", f"OPENBLAS_CORETYPE={core}"],
                  self.prefill("--compute", "f32")) for core in ("Haswell", "Nehalem")]
        result = self.contexts(*cores)
        self.expect(result, 6, "would not compute the same bits", "Nehalem", "Haswell",
                    "--allow-mixed-numerics")
        allowed = [(options, before, [*arguments, "--allow-mixed-numerics"])
                   for options, before, arguments in cores]
        self.expect(self.contexts(*allowed), 0)

    # The environment -------------------------------------------------------------------------------

    def test_srun_without_pmix_is_told_before_mpi_starts(self):
        result = run(self.prefill(), environment={
            "SLURM_JOB_ID": "7", "SLURM_NODELIST": "a", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0",
            "SLURM_STEP_NUM_TASKS": "2"})
        self.assertEqual(result.code, 6, result)
        self.assertEqual(len(result.stderr.splitlines()), 1, result)
        self.assertIn("srun --mpi=pmix", result.stderr)
        second = run(self.prefill(), environment={
            "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"})
        self.assertEqual((second.code, second.stderr), (6, ""), second)

    def test_programs_one_after_the_other_in_a_rank(self):
        """A rank of mpirun can start MPI once; what needs none must not."""
        cache = self.out("first.h5")
        self.assertEqual(run([*self.prefill()[:-2], "--out", cache]).code, 0)
        commands = [["inspect", cache], ["verify", cache], ["verify", cache],
                    ["plan", "--model", self.model, "--tokens", 100], ["pattern", "--blocks", 8],
                    ["version"], ["export", cache, "--out", self.out("kv.safetensors")],
                    ["inspect", "--help"]]
        script = " && ".join(shlex.join([str(binary()), *map(str, words)]) for words in commands)
        result = subprocess.run([*MPIRUN, "-np", "1", "sh", "-c", script], capture_output=True,
                                text=True, timeout=60, stdin=subprocess.DEVNULL)
        self.assertEqual(result.returncode, 0, result.stderr[-2000:])
        # One rank of several speaks.
        result = run(["version"], ranks=3)
        self.assertEqual(result.stdout.count("numerics"), 1, result)
        result = run(["version", "--nonsense"], ranks=3)
        self.assertEqual(result.code, 2, result)
        self.assertEqual(result.stderr.count("nonsense"), 1, result)

    def test_a_start_that_does_not_end_is_reported(self):
        """The second process never calls MPI."""
        command = [*MPIRUN, "-np", "1", str(binary()), "doctor", ":", "-np", "1", "sleep", "4"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60,
                                stdin=subprocess.DEVNULL,
                                env={**os.environ, "POWERPREFILL_START_PATIENCE": "1"})
        self.assertIn("has waited 1 s for the job to start", result.stderr)
        self.assertIn("btl_tcp_if_include", result.stderr)

    def test_idle_cores_are_told(self):
        if len(os.sched_getaffinity(0)) < 2:
            self.skipTest("needs 2 cores")
        command = [*MPIRUN, "--bind-to", "core", "-np", "1", str(binary())]
        for arguments in (["doctor"], self.prefill()):
            result = subprocess.run(command + [str(word) for word in arguments], text=True,
                                    capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertRegex(result.stdout + result.stderr,
                             r"host .*: 1 rank runs on 1 of \d+ cores.*--bind-to none")

    def test_threads_that_cannot_be_made(self):
        """Their stacks are beyond the limit of memory."""
        words = shlex.join([str(binary()), *map(str, self.prefill("--threads", 4000, "--compute", "f32"))])
        result = subprocess.run(["bash", "-c", f"ulimit -v 8000000; {words}"], text=True,
                                capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("cannot start a thread", result.stderr)

    # What is found before the weights are loaded -----------------------------------------------------

    def test_checks_come_before_the_weights(self):
        """The checkpoint has no weights: whoever gets there says so."""
        bare = write_checkpoint(self.folder / "bare", MODEL)
        (bare / "model.safetensors").unlink()
        bad = self.folder / "bad.npy"
        np.save(bad, np.array([1, 2, 999], np.int32))
        taken = self.out("taken.h5")
        taken.write_text("mine")
        ok = ["--tokens", self.folder / "ids.npy", "--out", self.out()]
        cases = [
            (["prefill", "--tokens", bad, "--out", self.out()], 3, "id 999"),
            (["score", "--tokens", bad], 3, "id 999"),
            (["prefill", *ok[:2], "--out", taken], 2, "exists"),
            (["prefill", *ok[:2], "--out", self.folder / "nowhere" / "kv.h5"], 5, "nowhere"),
            (["prefill", *ok[:2], "--out", "/proc/kv.h5"], 5, "/proc"),
            (["prefill", *ok, "--reserve", 2**36], 5, "cannot reserve"),
            (["prefill", *ok, "--prefix", taken], 4, "taken.h5"),
            (["prefill", *ok], 3, "model.safetensors"),
        ]
        for arguments, code, text in cases:
            for ranks in (None, 2):
                result = run([*arguments, "--model", bare], ranks=ranks)
                self.assertEqual(result.code, code, result)
                self.assertIn(text, result.stderr, result)
        # A folder that is not the same everywhere, and a cache of another model.
        hosts = [self.folder / name for name in ("one", "two")]
        for host in hosts:
            host.mkdir()
        arguments = ["prefill", "--model", bare, "--tokens", self.folder / "ids.npy", "--out", "kv.h5"]
        result = self.contexts(*((["-np", 1, "-wdir", host], [], arguments) for host in hosts))
        self.expect(result, 6, "not all ranks see the output folder")
        cache = self.out("cache.h5")
        self.assertEqual(run([*self.prefill()[:-2], "--out", cache]).code, 0)
        other = write_checkpoint(self.folder / "other", MODEL, config={"rms_norm_eps": 1e-5})
        (other / "model.safetensors").unlink()
        for arguments in (["decode", cache], ["prefill", "--tokens", self.folder / "ids.npy", "--resume",
                                              "--out", cache, "--block", 16]):
            result = run([*arguments, "--model", other])
            self.assertEqual(result.code, 4, result)
            self.assertIn("another model", result.stderr)
        result = run(["decode", cache, "--model", bare, "--tokens", bad])
        self.assertEqual(result.code, 3, result)
        self.assertIn("id 999", result.stderr)

    # Signals -----------------------------------------------------------------------------------------

    def test_a_stop_signal_ends_score_and_decode(self):
        """Each would take minutes."""
        slow = write_checkpoint(self.folder / "slow", Spec(layers=400))
        many = self.folder / "many.npy"
        np.save(many, np.arange(60000, dtype=np.int32) % 64)
        cache = self.out("slow.h5")
        self.assertEqual(run(["prefill", "--model", slow, "--tokens", self.folder / "ids.npy",
                              "--attention", "sliding", "--compute", "f32", "--out", cache]).code, 0)
        for arguments in (["score", "--tokens", many, "--attention", "full"],
                          ["decode", cache, "--tokens", many],
                          ["decode", cache, "--tokens", many, "--append"]):
            process = start([*arguments, "--model", slow, "--compute", "f32"], 2)
            time.sleep(3)
            process.send_signal(signal.SIGUSR1)
            _, errors = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 7, errors[-2000:])
            self.assertIn("stopped by a signal", errors)
            self.assertEqual(run(["verify", cache]).code, 0)
            info = run(["inspect", "--json", cache])
            self.assertGreaterEqual(json.loads(info.stdout)["tokens"], 40, info)


if __name__ == "__main__":
    unittest.main()
