"""Jobs over several hosts, which are network namespaces of this machine, each with a name, a folder and
shared memory of its own, as Open MPI starts and binds them. Needs that, root and iproute2; skipped where
hosts cannot be made."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import uuid
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.checkpoint import Spec, binary, run, write_checkpoint  # noqa: E402

MODEL = Spec(layers=2)
MPIRUN = os.environ.get("MPIEXEC", "mpirun")
SKIPPED = 77


def command(*words, **options):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True,
                          **options)


class Hosts:
    """`names` on one switch, without any traffic to or from the machine's own network. What mpirun runs
    on a host finds that host's own folder at `local`."""

    def __init__(self, count, extra_address=None):
        tag = uuid.uuid4().hex[:6]
        self.names = [f"pp{tag}{chr(97 + i)}" for i in range(count)]
        self.switch = f"pp{tag}sw"
        self.folder = Path(tempfile.mkdtemp(prefix="hosts-", dir="/var/tmp"))
        self.local = self.folder / "local"
        self.local.mkdir()
        try:
            self._make(extra_address)
        except (OSError, subprocess.CalledProcessError):
            self.close()
            raise

    def _make(self, extra_address):
        command("ip", "netns", "add", self.switch)
        command("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
        command("ip", "-n", self.switch, "link", "set", "br0", "up")
        lines = ["127.0.0.1 localhost"]
        for i, name in enumerate(self.names):
            command("ip", "netns", "add", name)
            command("ip", "-n", self.switch, "link", "add", f"p{i}", "type", "veth", "peer", "name",
                    "eth0", "netns", name)
            command("ip", "-n", self.switch, "link", "set", f"p{i}", "master", "br0", "up")
            command("ip", "-n", name, "addr", "add", f"10.99.0.{10 + i}/24", "dev", "eth0")
            command("ip", "-n", name, "link", "set", "eth0", "up")
            command("ip", "-n", name, "link", "set", "lo", "up")
            if extra_address:  # an interface as Docker makes it: up, and the same on every host
                command("ip", "-n", name, "link", "add", "docker0", "type", "bridge")
                command("ip", "-n", name, "addr", "add", extra_address, "dev", "docker0")
                command("ip", "-n", name, "link", "set", "docker0", "up")
            lines.append(f"10.99.0.{10 + i} {name}")
            (self.folder / name).mkdir()
        (self.folder / "hosts").write_text("\n".join(lines) + "\n")
        script = f"""#!/bin/sh
# HOST COMMAND: runs it as if on that host.
name=$1; shift
exec nsenter --net=/run/netns/$name unshare --uts --mount --ipc sh -c '
  hostname "$0"; mount --make-rprivate /; mount --bind {self.folder}/hosts /etc/hosts
  mount -t tmpfs -o size=1g,mode=1777 tmpfs /dev/shm; mount --bind {self.folder}/$0 {self.local}
  export TMPDIR={self.local}; exec "$@"' "$name" "$@"
"""
        self.on_host = self.folder / "on_host"
        self.on_host.write_text(script)
        agent = self.folder / "agent"
        agent.write_text(f'#!/bin/sh\nhost=$1; shift\nexec {self.on_host} "$host" sh -c "$*"\n')
        for path in (self.on_host, agent):
            path.chmod(0o755)
        self.mpirun = [MPIRUN, "--mca", "plm_rsh_agent", str(agent), "--mca", "mpi_yield_when_idle", "1"]

    def run(self, options, arguments, environment=None, timeout=90):
        words = ["timeout", "-k", "5", timeout, self.on_host, self.names[0], *self.mpirun, *options,
                 binary(), *arguments]
        environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1",
                       "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", **(environment or {})}
        return subprocess.run([str(word) for word in words], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, env=environment)

    def close(self):
        for name in (*self.names, self.switch):
            for pid in subprocess.run(["ip", "netns", "pids", name], capture_output=True,
                                      text=True).stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), 9)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class SeveralHosts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hosts = Hosts(2)
        cls.addClassCleanup(cls.hosts.close)
        cls.shared = cls.hosts.folder  # seen by all
        cls.model = write_checkpoint(cls.shared / "model", MODEL)
        cls.ids = cls.shared / "ids.npy"
        np.save(cls.ids, np.arange(100, dtype=np.int32) % MODEL.vocabulary)

    def at(self, *slots):
        """mpirun's options for so many ranks on each host, as a user gives them."""
        hosts = ",".join(f"{name}:{count}" for name, count in zip(self.hosts.names, slots))
        return ["--host", hosts, "-np", str(sum(slots))]

    def test_more_ranks_on_one_host_than_on_the_other(self):
        """Where Open MPI binds the ranks of one host and not those of the other."""
        result = self.hosts.run(self.at(3, 1), ["doctor"])
        self.assertEqual(result.returncode, 0, result.stderr[-3000:])
        for slots in ((3, 1), (1, 2)):
            out = self.shared / "kv.h5"
            result = self.hosts.run(self.at(*slots), ["prefill", "--model", self.model, "--tokens",
                                                      self.ids, "--block", 16, "--out", out, "--force"])
            self.assertEqual(result.returncode, 0, result.stderr[-3000:])
            result = self.hosts.run(self.at(*slots), ["decode", out, "--model", self.model, "--ids",
                                                      "--max-new-tokens", 5])
            self.assertEqual(result.returncode, 0, result.stderr[-3000:])
            alone = run(["decode", out, "--model", self.model, "--ids", "--max-new-tokens", 5])
            self.assertEqual(result.stdout, alone.stdout)

    def test_weights_that_differ_are_told(self):
        def one_weight(tensors):
            tensors["model.layers.1.mlp.up_proj.weight"][3, 4] += 0.5

        for name, change in zip(self.hosts.names, (None, one_weight)):
            write_checkpoint(self.shared / name / "model", MODEL, change=change)
        model = self.hosts.local / "model"
        for arguments in (["score"], ["prefill", "--out", self.shared / "differs.h5"]):
            result = self.hosts.run(self.at(2, 1), [*arguments, "--model", model, "--tokens", self.ids])
            self.assertEqual(result.returncode, 3, result.stderr[-3000:])
            self.assertIn("differ in their weights", result.stderr)
            for name in self.hosts.names:
                self.assertIn(f"(host {name})", result.stderr)
        self.assertFalse((self.shared / "differs.h5").exists())

    def test_a_folder_of_one_host_is_refused_before_the_weights_are_loaded(self):
        bare = write_checkpoint(self.shared / "bare", MODEL)
        (bare / "model.safetensors").unlink()
        result = self.hosts.run(self.at(1, 1), ["prefill", "--model", bare, "--tokens", self.ids,
                                                "--out", self.hosts.local / "kv.h5"])
        self.assertEqual(result.returncode, 6, result.stderr[-3000:])
        self.assertIn(f"rank 1 (host {self.hosts.names[1]})", result.stderr)


class SameAddressOnAllHosts(unittest.TestCase):
    def test_a_start_that_hangs_says_who_is_missing(self):
        hosts = Hosts(2, extra_address="172.18.9.1/16")
        self.addCleanup(hosts.close)
        options = ["--host", ",".join(f"{name}:1" for name in hosts.names), "-np", "2"]
        result = hosts.run(options, ["doctor"], {"POWERPREFILL_START_PATIENCE": "3"}, timeout=20)
        if result.returncode != 0:  # some versions find the way nevertheless
            self.assertIn("has waited 3 s for the job to start", result.stderr)
        result = hosts.run([*options, "--mca", "btl_tcp_if_include", "eth0", "--mca",
                            "oob_tcp_if_include", "eth0"], ["doctor"])
        self.assertEqual(result.returncode, 0, result.stderr[-3000:])


if __name__ == "__main__":
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "nsenter", "unshare"))):
        print("skipped: needs root, and ip of iproute2")
        sys.exit(SKIPPED)
    if "open-mpi.org" not in command(MPIRUN, "--version").stdout:  # the name depends on that of the program
        print(f"skipped: {MPIRUN} is not Open MPI's")
        sys.exit(SKIPPED)
    try:
        Hosts(1).close()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"skipped: hosts cannot be made here: {getattr(error, 'stderr', error)}")
        sys.exit(SKIPPED)
    unittest.main()
