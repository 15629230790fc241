"""What the binary says about bad models, tokens, outputs, caches and options.

    POWERPREFILL=build/powerprefill /usr/bin/python3 tests/system/test_bad_input.py [-v] [NAME ...]

Every refusal is tried with one rank and with three (variants of one, only with three): the job must
end soon, with the right code from mpirun and exactly one message, leaving no process and no file
behind. Needs numpy and h5py.
"""

import fcntl
import os
import re
import shutil
import struct
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import checkpoint as ck  # noqa: E402

OUT = "{out}"  # in arguments: a file in a folder of this run's own
BLOCK = 8
LENGTH = 44  # tokens of the prompt: six blocks, the last one half full
SPEC = ck.Spec()
THREE = (3,)  # ranks of a variant
SOON = 20  # seconds; a run takes half a second on idle cores
PREFILL_OPTIONS = {"--threads": 1, "--attention": "power", "--window": 2, "--block": BLOCK,
                   "--reserve": 16, "--compute": "f32"}

folder = None  # of all files of this program
model = None
tokens = None
cache = None


def setUpModule():
    global folder, model, tokens, cache
    holder = tempfile.TemporaryDirectory(prefix="powerprefill-bad-input-")
    unittest.addModuleCleanup(holder.cleanup)
    folder = Path(holder.name)
    model = ck.write_checkpoint(folder / "model", SPEC)
    tokens = write_tokens("tokens.txt", prompt())
    cache = folder / "cache.h5"
    result = ck.run(prefill(out=cache), 2)
    if result.code != 0:
        raise RuntimeError(f"no cache to test with: {result}")


def prompt():
    return np.random.default_rng(7).integers(0, SPEC.vocabulary, LENGTH).astype(np.int32)


def write_tokens(name, ids):
    path = folder / name
    path.write_text(" ".join(map(str, ids)) + "\n")
    return path


def prefill(*options, model=None, tokens=None, out=OUT):
    here = globals()
    usual = [word for pair in PREFILL_OPTIONS.items() if pair[0] not in options for word in pair]
    return ["prefill", "--model", model or here["model"], "--tokens", tokens or here["tokens"],
            "--out", out, "--quiet", *usual, *options]


def decode(path, *options, model=None):
    return ["decode", path, "--model", model or globals()["model"], "--threads", 1,
            "--max-new-tokens", 3, "--ids", "--quiet", *options]


def sizes_below(top):
    return {str(path): path.stat().st_size if path.is_file() else None for path in top.rglob("*")}


class Concurrently(unittest.TestSuite):
    """Runs its tests in a few threads: mpirun spends most of the time after a failure asleep."""

    def run(self, result, debug=False):
        setUpModule()
        try:
            with ThreadPoolExecutor(3) as pool:
                list(pool.map(lambda test: test(result), self))
        finally:
            unittest.case.doModuleCleanups()
        return result


def load_tests(loader, tests, pattern):
    return unittest.TestSuite([Concurrently(test for group in tests for test in group)])


class BadInput(unittest.TestCase):
    def setUp(self):
        self.folder = folder / self.id().rsplit(".", 1)[-1]
        self.folder.mkdir()
        self.addCleanup(shutil.rmtree, self.folder)

    def check_end(self, result):
        """What holds for every run, failed or not."""
        self.assertIsNotNone(result.code, f"killed: {result}")
        self.assertLess(result.seconds, SOON, str(result))
        self.assertEqual(result.left, [], f"processes left behind: {result}")
        for word in ("HDF5-DIAG", "terminate called", "Segmentation fault", "*** Process received"):
            self.assertNotIn(word, result.stderr + (result.stdout or ""), str(result))

    def run_job(self, arguments, ranks):
        out = self.folder / f"out-{ranks}"
        out.mkdir(exist_ok=True)
        words = [str(out / "kv.h5") if word == OUT else word for word in arguments]
        return ck.run(words, ranks)

    def runs(self, arguments, counts=(1, 3)):
        """The results by the number of ranks."""
        with ThreadPoolExecutor() as pool:
            results = dict(zip(counts, pool.map(lambda n: self.run_job(arguments, n), counts)))
        for ranks, result in results.items():
            with self.subTest(ranks=ranks):
                self.check_end(result)
        return results

    def refused(self, arguments, code, *words, counts=(1, 3)):
        """All runs fail with `code` and one message that has all `words`, and change no file.
        Returns the results."""
        before = sizes_below(self.folder)
        results = self.runs(arguments, counts)
        for ranks, result in results.items():
            with self.subTest(ranks=ranks, words=words):
                self.assertEqual(result.code, code, str(result))
                errors = re.findall("^.*powerprefill: error.*$", result.stderr, re.MULTILINE)
                self.assertEqual(len(errors), 1, str(result))
                message = result.stderr[result.stderr.index(errors[0]):].split("\n---")[0]
                for word in words:
                    self.assertIn(str(word), message, str(result))
                self.assertEqual(os.listdir(self.folder / f"out-{ranks}"), [])
        for ranks in results:
            shutil.rmtree(self.folder / f"out-{ranks}")
        self.assertEqual(sizes_below(self.folder), before, "files changed")
        return results

    def misused(self, arguments, *words, counts=(1, 3)):
        """All runs fail with code 2 and one message: the parser's, or the program's own."""
        before = sizes_below(self.folder)
        for ranks, result in self.runs(arguments, counts).items():
            with self.subTest(ranks=ranks, words=words):
                self.assertEqual(result.code, 2, str(result))
                told = re.findall("powerprefill: error|Run with --help", result.stderr)
                self.assertEqual(len(told), 1, str(result))
                self.assertEqual(result.stdout, "", str(result))
                for word in words:
                    self.assertEqual(result.stderr.count(word), 1, str(result))
                self.assertEqual(os.listdir(self.folder / f"out-{ranks}"), [])
            shutil.rmtree(self.folder / f"out-{ranks}")
        self.assertEqual(sizes_below(self.folder), before, "files changed")

    def copy_of_model(self, name="model"):
        return shutil.copytree(model, self.folder / name)

    def copy_of_cache(self, name="kv.h5"):
        return Path(shutil.copy(cache, self.folder / name))

    def model_with(self, change):
        """A copy of the model; `change` is called with the header and data (a bytearray) of its
        safetensors file. Returns the folder and that file."""
        copy = self.copy_of_model()
        file = copy / "model.safetensors"
        header, data = ck.read_raw_safetensors(file)
        data = bytearray(data)
        change(header, data)
        ck.write_raw_safetensors(file, header, bytes(data))
        return copy, file


class Model(BadInput):
    def test_missing_folder(self):
        nowhere = folder / "nowhere"
        self.refused(prefill(model=nowhere), 3, nowhere)
        self.refused(decode(cache, model=nowhere), 3, nowhere, counts=THREE)

    def test_no_config(self):
        copy = self.copy_of_model()
        (copy / "config.json").unlink()
        self.refused(prefill(model=copy), 3, copy / "config.json")

    def test_no_weights(self):
        copy = self.copy_of_model()
        (copy / "model.safetensors").unlink()
        self.refused(prefill(model=copy), 3, copy, "model.safetensors", counts=THREE)

    def test_missing_shard(self):
        sharded = ck.write_checkpoint(self.folder / "sharded", ck.Spec(shards=3))
        shard = sharded / "model-00002-of-00003.safetensors"
        shard.unlink()
        self.refused(prefill(model=sharded), 3, shard, counts=THREE)

    def test_config_is_not_json(self):
        copy = self.copy_of_model()
        (copy / "config.json").write_text('{"model_type": ')
        self.refused(prefill(model=copy), 3, copy / "config.json", "JSON", counts=THREE)

    def change_config(self, **changes):
        spec = ck.Spec(family=changes.pop("family", "qwen2"))
        return ck.write_checkpoint(self.folder / "changed", spec, changes)

    def test_unknown_architecture(self):
        other = self.change_config(architectures=["GPT2LMHeadModel"], model_type="gpt2")
        self.refused(prefill(model=other), 3, "config.json", "GPT2LMHeadModel", "Qwen2ForCausalLM")

    def test_sliding_window_of_mistral(self):
        other = self.change_config(family="mistral", sliding_window=4096)
        self.refused(prefill(model=other), 3, "config.json", "sliding_window", "4096")

    def test_sliding_window_of_qwen2(self):
        other = self.change_config(use_sliding_window=True, sliding_window=512)
        self.refused(prefill(model=other), 3, "config.json", "sliding_window", "512")

    def test_mixture_of_experts(self):
        other = self.change_config(family="qwen3", num_experts=8)
        self.refused(prefill(model=other), 3, "config.json", "num_experts", "8")

    def test_huge_sizes_in_config(self):
        other = self.change_config(hidden_size=2**40)
        self.refused(prefill(model=other), 3, "config.json", "hidden_size", counts=THREE)

    def test_header_longer_than_file(self):
        copy = self.copy_of_model()
        file = copy / "model.safetensors"
        content = file.read_bytes()
        for length, counts in ((len(content), (1, 3)), (2**64 - 8, THREE)):
            file.write_bytes(struct.pack("<Q", length) + content[8:])
            self.refused(prefill(model=copy), 3, file, "header", length, counts=counts)

    def test_offsets_out_of_range(self):
        name = "model.norm.weight"

        def beyond_the_end(header, data):
            header[name]["data_offsets"] = [len(data), len(data) + 4 * SPEC.hidden]

        copy, file = self.model_with(beyond_the_end)
        self.refused(prefill(model=copy), 3, file, name, "data_offsets")
        header, data = ck.read_raw_safetensors(file)
        header[name]["data_offsets"] = [2**64 - 4 * SPEC.hidden, 2**64]
        ck.write_raw_safetensors(file, header, data)
        self.refused(prefill(model=copy), 3, file, name, "data_offsets", counts=THREE)

    def test_overlapping_tensors(self):
        first, second = (f"model.layers.0.mlp.{part}_proj.weight" for part in ("gate", "up"))

        def overlap(header, data):
            begin, end = header[first]["data_offsets"]
            header[second]["data_offsets"] = [begin + 4, end + 4]

        copy, file = self.model_with(overlap)
        self.refused(prefill(model=copy), 3, file, first, second, "overlap")

    def test_tensor_short_for_its_shape(self):
        name = "model.layers.1.mlp.down_proj.weight"

        def shorten(header, data):
            header[name]["data_offsets"][1] -= 4

        copy, file = self.model_with(shorten)
        self.refused(prefill(model=copy), 3, file, name, "shape")

    def test_truncated_weights(self):
        copy = self.copy_of_model()
        file = copy / "model.safetensors"
        os.truncate(file, file.stat().st_size - 4)
        self.refused(prefill(model=copy), 3, file, "lm_head.weight", counts=THREE)

    def test_wrong_shape(self):
        name = "model.layers.1.self_attn.k_proj.weight"

        def transpose(header, data):
            header[name]["shape"].reverse()

        copy, file = self.model_with(transpose)
        self.refused(prefill(model=copy), 3, file, name, "(32, 16)", "(16, 32)")

    def test_missing_tensor(self):
        name = "model.layers.1.self_attn.v_proj.bias"
        copy, _ = self.model_with(lambda header, data: header.pop(name))
        self.refused(prefill(model=copy), 3, name)

    def test_quantized_weights(self):
        name = "model.layers.0.self_attn.q_proj.weight"

        def quantize(header, data):
            header[name]["dtype"] = "I8"
            header[name]["data_offsets"][1] = (header[name]["data_offsets"][0] +
                                               SPEC.heads * SPEC.head_dim * SPEC.hidden)

        copy, file = self.model_with(quantize)
        self.refused(prefill(model=copy), 3, file, name, "I8", "BF16", counts=THREE)


    def test_weight_is_not_a_number(self):
        """Every rank sees it, and one speaks."""
        def spoil(tensors):
            tensors["model.layers.1.self_attn.v_proj.weight"][3, 3] = np.nan

        other = ck.write_checkpoint(self.folder / "spoilt", SPEC, change=spoil)
        command = prefill("--force", model=other)
        for ranks, result in self.runs(command).items():
            with self.subTest(ranks=ranks):
                self.assertEqual(result.code, 3, str(result))
                self.assertEqual(result.stderr.count("powerprefill: error"), 1, str(result))
                for word in ("layer 1", "token ", "not a finite number"):
                    self.assertIn(word, result.stderr)


class Tokens(BadInput):
    def test_id_out_of_range(self):
        for id, counts in ((SPEC.vocabulary, (1, 3)), (-1, THREE)):
            ids = prompt()
            ids[LENGTH - 2] = id
            file = write_tokens(f"{self.folder.name}/ids.txt", ids)
            self.refused(prefill(tokens=file), 3, f"token {LENGTH - 2} ", f"id {id}",
                         SPEC.vocabulary, counts=counts)

    def test_id_beyond_32_bits(self):
        file = write_tokens(f"{self.folder.name}/ids.txt", [1, 2**32 + 1])
        self.refused(prefill(tokens=file), 3, file, 2**32 + 1, counts=THREE)

    def test_empty_prompt(self):
        for text, counts in (("", (1, 3)), (" \n\n", THREE)):
            file = self.folder / "empty.txt"
            file.write_text(text)
            self.refused(prefill(tokens=file), 3, "empty", counts=counts)

    def test_garbage(self):
        file = self.folder / "garbage"
        file.write_text("12 34 fifty")
        self.refused(prefill(tokens=file), 3, file, "byte 6")
        file.write_bytes(np.random.default_rng(1).bytes(1000))
        self.refused(prefill(tokens=file), 3, file, counts=THREE)

    def test_bad_npy(self):
        file = self.folder / "tokens.npy"
        np.save(file, prompt().astype(np.float32))
        self.refused(prefill(tokens=file), 3, file, "int32")
        np.save(file, prompt().reshape(4, -1))
        self.refused(prefill(tokens=file), 3, file, "dimension", counts=THREE)
        np.save(file, prompt())
        os.truncate(file, file.stat().st_size - 1)
        self.refused(prefill(tokens=file), 3, file, "shorter", counts=THREE)

    def test_bad_hdf5(self):
        file = self.folder / "tokens.h5"
        with h5py.File(file, "w") as out:
            out["other"] = prompt()
        self.refused(prefill(tokens=file), 3, file, "tokens")
        with h5py.File(file, "w") as out:
            out["tokens"] = prompt().astype(np.float64)
        self.refused(prefill(tokens=file), 3, file, "tokens", "int32", counts=THREE)
        os.truncate(file, 1000)
        self.refused(prefill(tokens=file), 3, file, counts=THREE)

    def test_missing_file(self):
        self.refused(prefill(tokens=self.folder / "none.txt"), 3, self.folder / "none.txt")

    def test_folder_as_file(self):
        self.refused(prefill(tokens=model), 3, model, counts=THREE)


class Output(BadInput):
    def test_folder_missing(self):
        nowhere = self.folder / "nowhere"
        self.refused(prefill(out=nowhere / "kv.h5"), 5, nowhere, "does not exist")

    def test_below_a_regular_file(self):
        file = self.folder / "file"
        file.write_text("")
        self.refused(prefill(out=file / "kv.h5"), 5, file)

    def test_name_too_long(self):
        self.refused(prefill(out=self.folder / ("k" * 300)), 5, "k" * 300,
                     counts=THREE)

    def test_output_is_a_folder(self):
        self.refused(prefill("--force", out=self.folder), 2, self.folder, "folder",
                     counts=THREE)

    def test_report_unwritable(self):
        report = self.folder / "nowhere" / "report.json"
        self.refused(prefill("--report", report), 5, report, counts=THREE)
        self.refused(decode(cache, "--report", report), 5, report, counts=THREE)

    def test_output_exists(self):
        existing = self.folder / "kv.h5"
        existing.write_text("precious")
        self.refused(prefill(out=existing), 2, existing, "exists", "--force")
        self.assertEqual(existing.read_text(), "precious")
        for ranks in (1, 3):
            existing.write_text("worthless")
            result = ck.run(prefill("--force", out=existing), ranks)
            self.assertEqual(result.code, 0, str(result))
            self.assertEqual(os.listdir(self.folder), ["kv.h5"])
            result = ck.run(["verify", existing])
            self.assertEqual(result.code, 0, str(result))

    def test_in_use(self):
        """Another writer holds the lock of the output."""
        existing = self.copy_of_cache()
        before = existing.read_bytes()
        with open(existing, "r+b") as file:
            everything = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, everything)
            self.refused(prefill("--force", out=existing), 4, existing, "in use")
            # Readers do not care.
            for ranks, result in self.runs(decode(existing)).items():
                with self.subTest(ranks=ranks):
                    self.assertEqual(result.code, 0, str(result))
        self.assertEqual(existing.read_bytes(), before)

    def test_full_stdout(self):
        """A result that nobody got is not a success."""
        for command in (decode(cache), ["inspect", cache, "--json"], ["verify", cache]):
            with self.subTest(command=command[0]), open("/dev/full", "w") as full:
                result = ck.run(command, stdout=full)
                self.check_end(result)
                self.assertEqual(result.code, 5, str(result))

    def test_overflow_of_f16(self):
        """Token 37 alone has a value beyond 65504, in layer 1."""
        special = 5
        ids = prompt()
        ids[ids == special] = special + 1
        ids[37] = special
        file = write_tokens(f"{self.folder.name}/ids.txt", ids)

        def mark(tensors):
            # Dimension 0 is the special token's alone: no layer before writes to it.
            tensors["model.embed_tokens.weight"][:, 0] = 0
            tensors["model.embed_tokens.weight"][special, 0] = 4
            tensors["model.layers.0.self_attn.o_proj.weight"][0] = 0
            tensors["model.layers.0.mlp.down_proj.weight"][0] = 0
            tensors["model.layers.1.self_attn.v_proj.weight"][:, 0] *= 1e6

        loud = ck.write_checkpoint(self.folder / "loud", SPEC, change=mark)
        for ranks, result in self.runs(
                prefill("--kv-dtype", "f16", model=loud, tokens=file)).items():
            with self.subTest(ranks=ranks):
                self.assertEqual(result.code, 3, str(result))
                self.assertEqual(result.stderr.count("powerprefill: error"), 1, str(result))
                for word in ("layer 1", "token 37 ", "f16", "65504", "bf16"):
                    self.assertIn(word, result.stderr, str(result))
                out = self.folder / f"out-{ranks}"
                # The file was made before the run; nothing is committed to it.
                self.assertIn(os.listdir(out), ([], ["kv.h5"]))
                if (out / "kv.h5").exists():
                    result = ck.run(decode(out / "kv.h5", model=loud))
                    self.assertEqual(result.code, 4, str(result))
                    self.assertIn("no commit", result.stderr)
        for ranks, result in self.runs(prefill("--kv-dtype", "bf16", "--force", model=loud,
                                               tokens=file)).items():
            with self.subTest(ranks=ranks):
                self.assertEqual(result.code, 0, str(result))
                with h5py.File(self.folder / f"out-{ranks}" / "kv.h5") as made:
                    self.assertGreater(np.abs(made["layers/0001/value"][37]).max(), 65504)


class Cache(BadInput):
    def test_missing(self):
        nowhere = self.folder / "none.h5"
        self.refused(decode(nowhere), 3, nowhere)
        for command in ("verify", "inspect"):
            self.refused([command, nowhere], 3, nowhere, counts=THREE)

    def test_made_with_other_weights(self):
        other = ck.write_checkpoint(self.folder / "other", ck.Spec(seed=1))
        self.refused(decode(cache, model=other), 4, "weights", "another model")

    def test_made_with_another_config(self):
        other = ck.write_checkpoint(self.folder / "other", SPEC, {"rms_norm_eps": 1e-5})
        self.refused(decode(cache, model=other), 4, "config", "another model")
        shutil.rmtree(other)
        ck.write_checkpoint(other, ck.Spec(layers=3))
        self.refused(decode(cache, model=other), 4, "config", "another model", counts=THREE)

    def test_truncated(self):
        copy = self.copy_of_cache()
        size = copy.stat().st_size
        os.truncate(copy, size // 2)
        self.refused(decode(copy), 4, copy)
        for command in ("verify", "inspect"):
            self.refused([command, copy], 4, copy, counts=THREE)
        for less in (100, 0):
            os.truncate(copy, less)
            self.refused(decode(copy), 4, copy, counts=THREE)
        shutil.copy(cache, copy)
        os.truncate(copy, size - 1)
        self.refused(decode(copy), 4, copy, counts=THREE)

    def test_not_hdf5(self):
        file = self.folder / "kv.h5"
        file.write_text("This is not a cache.\n" * 100)
        self.refused(decode(file), 4, file, "HDF5")
        for command in ("verify", "inspect"):
            self.refused([command, file], 4, file, "HDF5", counts=THREE)

    def test_foreign_hdf5(self):
        file = self.folder / "kv.h5"
        with h5py.File(file, "w") as out:
            out["layers/0000/key"] = np.zeros(10)
        self.refused(decode(file), 4, file)
        with h5py.File(file, "r+") as out:
            out.attrs["format"] = "something else"
        self.refused(["verify", file], 4, file, counts=THREE)

    def test_no_commit(self):
        copy = self.copy_of_cache()
        with h5py.File(copy, "r+") as file:
            file["commit"][...] = 0
        self.refused(decode(copy), 4, copy, "no commit")
        for command in ("verify", "inspect"):
            self.refused([command, copy], 4, copy, "no commit", counts=THREE)

    def test_damaged_commit(self):
        """A bit of anything that the commit record covers."""
        # The first commit has sequence number 1, and so row and slot 1.
        for name, index in (("commit", (1, 24)), ("tokens", (LENGTH - 1,)), ("logits", (1, 3)),
                            ("hidden", (1, 3)), ("checksums", (1, 0, 1, 2))):
            copy = self.copy_of_cache(f"{name}.h5")
            with h5py.File(copy, "r+") as file:
                dataset = file[name]
                at = (dataset.id.get_offset() +
                      int(np.ravel_multi_index(index, dataset.shape)) * dataset.dtype.itemsize)
            flip(copy, at)
            self.refused(decode(copy), 4, copy, counts=THREE)

    def test_damaged_attribute(self):
        copy = self.copy_of_cache()
        with h5py.File(copy, "r+") as file:
            rope = file.attrs["rope"]
            rope = rope.decode() if isinstance(rope, bytes) else rope
            kind = file.attrs.get_id("rope").dtype
            file.attrs.modify("rope", np.array(rope.replace("1", "2", 1).encode(), kind)
                              if kind.kind == "S" else rope.replace("1", "2", 1))
        self.refused(decode(copy), 4, copy)

    def test_flipped_byte(self):
        """In a key of the last block of layer 1, which every next token attends to."""
        copy = self.copy_of_cache()
        row = LENGTH - 2
        with h5py.File(copy, "r+") as file:
            keys = file["layers/0001/key"]
            at = keys.id.get_offset() + row * keys[0].nbytes + 5
        flip(copy, at)
        where = f"layer 1 key block {row // BLOCK}"
        self.refused(["verify", copy], 4, copy, where)
        good = ck.run(decode(cache))
        self.assertEqual(good.code, 0, str(good))
        for ranks, result in self.refused(decode(copy), 4, copy, where).items():
            with self.subTest(ranks=ranks):
                # The first token comes from the logits in the file; the next depends on the key.
                printed = result.stdout.split()
                self.assertEqual(printed, good.stdout.split()[:len(printed)])
                self.assertLessEqual(len(printed), 1)

    def test_damage_beyond_the_commit(self):
        """Bytes of rows that do not count: nobody minds."""
        copy = self.copy_of_cache()
        with h5py.File(copy, "r+") as file:
            keys = file["layers/0001/key"]
            at = keys.id.get_offset() + LENGTH * keys[0].nbytes + 5
        flip(copy, at)
        for command in (decode(copy), ["verify", copy]):
            for ranks, result in self.runs(command).items():
                with self.subTest(ranks=ranks):
                    self.assertEqual(result.code, 0, str(result))


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x40]))


class Usage(BadInput):
    def test_no_command(self):
        self.misused([], counts=THREE)
        self.misused(["reticulate"], counts=THREE)

    def test_unknown_option(self):
        self.misused(prefill("--frobnicate"), "--frobnicate")

    def test_missing_out(self):
        self.misused(["prefill", "--model", model, "--tokens", tokens], "--out,")

    def test_missing_model(self):
        self.misused(["decode", cache], "--model", counts=THREE)

    def test_window(self):
        self.misused(prefill("--window", 0), "window")

    def test_sink(self):
        self.misused(prefill("--sink", -1), "sink", counts=THREE)

    def test_block(self):
        self.misused(prefill("--block", 0), "block")

    def test_unknown_pattern(self):
        self.misused(prefill("--attention", "telepathy"), "telepathy")

    def test_unknown_dtype(self):
        self.misused(prefill("--kv-dtype", "f64"), "f64", counts=THREE)

    def test_reserve(self):
        for reserve in (-1, 2**63 - 1):
            self.misused(prefill("--reserve", reserve), "reserve", counts=THREE)

    def test_threads(self):
        self.misused(prefill("--threads", 0), "--threads", counts=THREE)

    def test_temperature(self):
        self.misused(decode(cache, "--temperature", -1), "temperature")

    def test_top_p(self):
        self.misused(decode(cache, "--top-p", 0), "top-p")


if __name__ == "__main__":
    unittest.main()
