"""Makes small random checkpoints without transformers, and runs the powerprefill binary on them.

The binary is named by the environment variable POWERPREFILL. POWERPREFILL_MPIRUN may hold another
launch command than `launch/local-mpirun`; `-np N` is added to it.
"""

import contextlib
import dataclasses
import json
import os
import shlex
import signal
import struct
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MPIRUN = os.environ.get("POWERPREFILL_MPIRUN", shlex.quote(str(ROOT / "launch/local-mpirun")))
JOB = "POWERPREFILL_TEST_JOB"  # in the environment of all processes of a run: its name
SAFETENSORS_NAMES = {"f32": "F32", "bf16": "BF16", "f16": "F16"}


@dataclasses.dataclass
class Spec:
    """The config of a checkpoint, and the dtype and seed of its weights."""

    family: str = "qwen2"  # llama, mistral, qwen2 or qwen3
    dtype: str = "f32"  # of the stored weights: f32, bf16 or f16
    seed: int = 0
    shards: int = 1
    vocabulary: int = 64
    hidden: int = 32
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 8
    feed_forward: int = 48
    tied: bool = False

    def config(self):
        architectures = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2",
                         "qwen3": "Qwen3"}
        return {
            "architectures": [architectures[self.family] + "ForCausalLM"],
            "model_type": self.family,
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.feed_forward,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "tie_word_embeddings": self.tied,
            "sliding_window": None,
        }

    def shapes(self):
        """The shape of each tensor by name, in the order of the file."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes = {"model.embed_tokens.weight": (self.vocabulary, self.hidden)}
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            shapes[prefix + "input_layernorm.weight"] = (self.hidden,)
            for part, rows in (("q", queries), ("k", keys), ("v", keys)):
                shapes[f"{prefix}self_attn.{part}_proj.weight"] = (rows, self.hidden)
                if self.family == "qwen2":
                    shapes[f"{prefix}self_attn.{part}_proj.bias"] = (rows,)
                if self.family == "qwen3" and part != "v":
                    shapes[f"{prefix}self_attn.{part}_norm.weight"] = (self.head_dim,)
            shapes[prefix + "self_attn.o_proj.weight"] = (self.hidden, queries)
            shapes[prefix + "post_attention_layernorm.weight"] = (self.hidden,)
            for part in ("gate", "up"):
                shapes[f"{prefix}mlp.{part}_proj.weight"] = (self.feed_forward, self.hidden)
            shapes[prefix + "mlp.down_proj.weight"] = (self.hidden, self.feed_forward)
        shapes["model.norm.weight"] = (self.hidden,)
        if not self.tied:
            shapes["lm_head.weight"] = (self.vocabulary, self.hidden)
        return shapes

    def tensors(self):
        """Random float32 weights that the stored dtype holds exactly; the same for every dtype."""
        random = np.random.default_rng(self.seed)
        tensors = {}
        for name, shape in self.shapes().items():
            values = random.standard_normal(shape)
            if name.endswith("norm.weight"):
                values = 1 + 0.2 * values
            elif len(shape) == 2 and "embed" not in name:
                values *= 1.5 / np.sqrt(shape[1])
            # 8 bits of mantissa and a small exponent: f32, bf16 and f16 have such numbers alike.
            values[np.abs(values) < 1e-3] = 0
            tensors[name] = round_to_bf16(values.astype(np.float32))
        return tensors


def round_to_bf16(values):
    """To the nearest bf16 value, ties to even; as float32."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


def encode(values, dtype):
    values = np.ascontiguousarray(values, np.float32)
    if dtype == "bf16":
        return (round_to_bf16(values).view(np.uint32) >> 16).astype("<u2").tobytes()
    return values.astype({"f32": "<f4", "f16": "<f2"}[dtype]).tobytes()


def write_safetensors(path, tensors, dtype):
    header, data = {}, bytearray()
    for name, values in tensors.items():
        encoded = encode(values, dtype)
        header[name] = {"dtype": SAFETENSORS_NAMES[dtype], "shape": list(values.shape),
                        "data_offsets": [len(data), len(data) + len(encoded)]}
        data += encoded
    write_raw_safetensors(path, header, data)


def write_raw_safetensors(path, header, data):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_raw_safetensors(path):
    """(header, data) of the file."""
    content = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8:8 + length]), content[8 + length:]


def read_tensor(folder, name):
    """A tensor of a checkpoint in one file or in shards, as float32; None when it has none."""
    for path in sorted(Path(folder).glob("*.safetensors")):
        header, data = read_raw_safetensors(path)
        if name not in header:
            continue
        begin, end = header[name]["data_offsets"]
        raw, dtype = data[begin:end], header[name]["dtype"]
        if dtype == "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float32)
        return values.reshape(header[name]["shape"])
    return None


def write_checkpoint(folder, spec=Spec(), config=None, change=None):
    """Writes config.json and the weights. `config` is merged into the config, and `change` is
    called with the dict of tensors before they are written. Returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    text = json.dumps({**spec.config(), **(config or {})}, indent=2)
    (folder / "config.json").write_text(text + "\n")
    tensors = spec.tensors()
    if change is not None:
        change(tensors)
    if spec.shards == 1:
        write_safetensors(folder / "model.safetensors", tensors, spec.dtype)
        return folder
    names, weight_map = list(tensors), {}
    for shard in range(spec.shards):
        file = f"model-{shard + 1:05d}-of-{spec.shards:05d}.safetensors"
        own = names[shard::spec.shards]
        write_safetensors(folder / file, {name: tensors[name] for name in own}, spec.dtype)
        weight_map.update(dict.fromkeys(own, file))
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@dataclasses.dataclass
class Result:
    command: str
    code: int | None  # None: it had to be ended
    stdout: str | None  # None: it went to a file
    stderr: str
    seconds: float
    left: list  # ids of processes that the job left behind; they have been ended

    def __str__(self):
        return (f"`{self.command}` ended with {self.code} after {self.seconds:.1f} s\n"
                f"--- stdout ---\n{(self.stdout or '')[-2000:]}\n"
                f"--- stderr ---\n{self.stderr[-4000:]}")


def binary():
    return Path(os.environ["POWERPREFILL"]).resolve()


def processes_of(job):
    """Ids of the running processes of the binary that a run with this name started."""
    found, mark = [], f"{JOB}={job}".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            same = os.readlink(folder / "exe").removesuffix(" (deleted)") == str(binary())
            if same and mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            pass  # it has ended, or belongs to somebody else
    return found


def end_launcher(process):
    """Politely, so that mpirun takes its ranks along; else by force."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the ranks are not in this group
        process.wait()


def end_ranks(job, patience):
    """Ends what is still there after `patience` seconds, and returns the ids."""
    deadline = time.monotonic() + patience
    while left := processes_of(job):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return left


def launcher(ranks, mpirun=MPIRUN):
    """The words before a program that runs on so many ranks; none for None or 0. mpirun may read all of
    its standard input, which is better not the caller's."""
    return [*shlex.split(mpirun), "-np", str(ranks)] if ranks else []


def launch(arguments, ranks):
    """The command line of a run."""
    return [*launcher(ranks), str(binary()), *map(str, arguments)]


def start(arguments, ranks=None, job="", environment=None):
    """Starts a run and returns its Popen; the caller ends it. `job` names it for processes_of()."""
    return subprocess.Popen(launch(arguments, ranks), stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            errors="replace", start_new_session=True,
                            env={**os.environ, **(environment or {}), JOB: job})


@contextlib.contextmanager
def folder_of_job(ranks):
    """An environment in which a job's ranks share a folder of their own. Jobs of one user that begin
    and end at the same time would trip over the one that Open MPI makes and removes for all of them."""
    if not ranks or "TMPDIR" in os.environ:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="mpi-", ignore_cleanup_errors=True) as folder:
        yield {"TMPDIR": folder}


def run(arguments, ranks=None, timeout=40, stdout=subprocess.PIPE, environment=None):
    """Runs the binary with `arguments`, under mpirun if `ranks` are given; the output may go to an
    open file `stdout`. After `timeout` seconds the run is ended. Runs may overlap."""
    with folder_of_job(ranks) as own:
        return run_in({**own, **(environment or {})}, arguments, ranks, timeout, stdout)


def run_in(environment, arguments, ranks, timeout, stdout):
    command = launch(arguments, ranks)
    job = uuid.uuid4().hex
    begin = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout,
                               stderr=subprocess.PIPE, text=True, errors="replace",
                               env={**os.environ, **environment, JOB: job},
                               start_new_session=True)
    try:
        output, errors = process.communicate(timeout=timeout)
        code, seconds = process.returncode, time.monotonic() - begin
        left = end_ranks(job, patience=1)
    except subprocess.TimeoutExpired:
        end_launcher(process)
        left = end_ranks(job, patience=0)
        output, errors = process.communicate()
        code, seconds = None, time.monotonic() - begin
    return Result(shlex.join(command), code, output, errors, seconds, left)
