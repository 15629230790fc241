"""Checkpoints that say one thing and hold another, or that no reader of JSON was made for.

    POWERPREFILL=build/powerprefill /usr/bin/python3 tests/system/test_bad_model.py [-v] [NAME ...]

Every refusal has code 3 and one message that names the file and what is wrong in it. Needs numpy.
"""

import json
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import checkpoint as ck  # noqa: E402

SPEC = ck.Spec(family="llama")
POINTER = ("version https://git-lfs.github.com/spec/v1\n"
           "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
           "size 4976698672\n")
TOKENS = [3, 1, 4, 1, 5, 9, 2, 6]
DEEP = "[" * 200_000 + "]" * 200_000


class BadModel(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="powerprefill-bad-model-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.number = 0
        self.tokens = self.folder / "tokens.txt"
        self.tokens.write_text(" ".join(map(str, TOKENS)))

    def model(self, config=None, change=None, **spec):
        self.number += 1
        spec = ck.Spec(**{"family": "llama", **spec})
        return ck.write_checkpoint(self.folder / f"model{self.number}", spec, config, change)

    def command(self, name, model, *options, tokens=None):
        if name == "plan":
            return ["plan", "--model", model, "--tokens", len(TOKENS), *options]
        out = ["--out", self.folder / "kv.h5", "--force"] if name == "prefill" else []
        return [name, "--model", model, "--tokens", tokens or self.tokens, "--threads", 1, *out,
                *options]

    def end(self, command, code, *words, ranks=None):
        result = ck.run(command, ranks)
        self.assertEqual(result.code, code, str(result))
        self.assertEqual(result.stderr.count("powerprefill: error"), 1 if code else 0, str(result))
        for word in words:
            self.assertIn(str(word), result.stderr, str(result))
        return result

    def notes(self, result):
        return [line for line in result.stderr.splitlines() if "powerprefill: note:" in line]

    def decode(self, model, *options):
        return ["decode", self.folder / "kv.h5", "--model", model, "--threads", 1, "--ids",
                "--max-new-tokens", 2, *options]


class Values(BadModel):
    # Every tensor of a model is tried in weights_test.cpp.
    def test_a_weight_that_is_no_number(self):
        name = "model.layers.1.self_attn.q_proj.weight"
        for dtype, compute in (("f32", "f32"), ("bf16", "bf16"), ("f16", "bf16")):
            def change(tensors):
                tensors[name][5, 7] = np.nan
            model = self.model(change=change, dtype=dtype)
            self.end(self.command("score", model, "--compute", compute), 3, "layer 1: ", name,
                     model / "model.safetensors", "row 5, column 7")

    def test_queries_beyond_f32(self):
        def change(tensors):
            tensors["model.layers.1.self_attn.q_proj.weight"][:] = 3e38
        model = self.model(change=change)
        for compute in ("f32", "bf16"):
            for ranks in (None, 2):
                self.end(self.command("prefill", model, "--compute", compute), 3,
                         "layer 1: a query of token", ranks=ranks)

    def test_a_row_of_the_embedding(self):
        def change(tensors):
            tensors["model.embed_tokens.weight"][60] = np.nan
        model = self.model(change=change)
        for compute in ("f32", "bf16"):
            self.end(self.command("prefill", model, "--compute", compute), 0)
            ids = self.folder / "more.txt"
            ids.write_text("1 60 2")
            self.end(self.decode(model, "--tokens", ids), 3, "layer 0: a", "token 9")
            self.end(self.command("prefill", model, "--compute", compute, tokens=ids), 3,
                     "layer 0: a key or value of token 1 ", ranks=3)


class Tensors(BadModel):
    def test_tied_tables(self):
        """As transformers reads them: by what the file holds."""
        def logits(model):
            result = ck.run(self.command("score", model, "--nll", self.folder / "nll.json"))
            self.assertEqual(result.code, 0, str(result))
            return json.loads((self.folder / "nll.json").read_text())["log_probabilities"]

        head = ck.Spec(family="llama").tensors()["lm_head.weight"]
        two = logits(self.model({"tie_word_embeddings": True},
                                lambda tensors: tensors.update({"lm_head.weight": head})))
        self.assertEqual(two, logits(self.model()))
        one = logits(self.model(tied=True))
        self.assertNotEqual(one, two)

        def rename(tensors):
            tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
        self.assertEqual(logits(self.model(change=rename, tied=True)), one)

    def test_unused_tensors(self):
        for name in ("self_attn.sinks", "self_attn.q_proj.lora_A.weight", "layer_scalar"):
            name = "model.layers.0." + name
            model = self.model(change=lambda tensors: tensors.update({name: np.ones(4)}))
            self.end(self.command("prefill", model), 3, name, model / "model.safetensors")

    def test_an_index_that_names_more(self):
        model = self.model(shards=3)
        path = model / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        index["weight_map"].update({"mtp.head.weight": "model-9.safetensors",
                                    "extra": "model-00001-of-00003.safetensors"})
        path.write_text(json.dumps(index))
        self.end(self.command("prefill", model), 0)


class Files(BadModel):
    def test_git_lfs_pointers(self):
        for name in ("config.json", "model.safetensors", "model.safetensors.index.json",
                     "model-00002-of-00003.safetensors"):
            model = self.model(shards=3 if "0000" in name or "index" in name else 1)
            (model / name).write_text(POINTER)
            self.end(self.command("prefill", model), 3, model / name, "Git LFS pointer")
        model = self.model()
        (model / "tokenizer.json").write_text(POINTER)
        self.end(["prefill", "--model", model, "--prompt", "a", "--out", self.folder / "kv.h5"],
                 3, model / "tokenizer.json", "Git LFS pointer")

    def test_json_of_other_writers(self):
        """NaN and infinities, numbers beyond a double, values 200,000 deep."""
        model = self.model()
        good = (model / "config.json").read_text()
        for value in ("NaN", "-Infinity", "1e999"):
            for key, code in (("anything", 0), ("rms_norm_eps", 3)):
                text = good.rstrip().removesuffix("}") + f', "{key}": {value}}}'
                (model / "config.json").write_text(text)
                self.end(self.command("plan", model), code, *([f"`{key}`", value] if code else []))
        (model / "config.json").write_text(
            text.replace("LlamaForCausalLM", "GemmaForCausalLM"))
        self.end(self.command("plan", model), 3, "GemmaForCausalLM")
        for value in (DEEP, "1e999" * 30_000):
            (model / "config.json").write_text(f'{{"architectures": {value}}}')
            result = self.end(self.command("plan", model), 3, model / "config.json")
            self.assertLess(len(result.stderr), 2000)
        (model / "config.json").write_text(good)
        sharded = self.model(shards=3)
        for value in (DEEP, "1e999", "NaN", str(2**64 - 1)):
            path = sharded / "model.safetensors.index.json"
            path.write_text(f'{{"weight_map": {{"model.embed_tokens.weight": {value}}}}}')
            result = self.end(self.command("prefill", sharded), 3, path)
            self.assertLess(len(result.stderr), 2000)
            path = model / "model.safetensors"
            text = f'{{"a": {{"dtype": "F32", "shape": {value}, "data_offsets": [0, 4]}}}}'
            path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + bytes(4))
            result = self.end(self.command("prefill", model), 3, path)
            self.assertLess(len(result.stderr), 2000)


class Numbers(BadModel):
    def test_own_attention(self):
        for key, value in (("block", 10**18), ("block", 65537), ("block", 0), ("block", 2**64 - 1),
                           ("block", 1e18), ("window", 2**64 - 1), ("sink", 2**64 - 1),
                           ("window", 2**31), ("sink", 2**62), ("stride", 2**63 - 1), ("sink", -1),
                           ("full_layers", [2**64 - 1]), ("full_layers", [2]),
                           ("full_layers", 0)):
            model = self.model({"power_attention": {"pattern": "power", key: value}})
            shown = json.dumps(value[0] if isinstance(value, list) else value).replace("e+", "e")
            result = self.end(self.command("plan", model), 3, "config.json", key)
            self.assertTrue(value == -1 or " -1" not in result.stderr, result)
            self.assertIn(shown, result.stderr.replace("e+", "e"))
        self.end(self.command("prefill", model), 3, "config.json", "full_layers")
        model = self.model({"power_attention": {"pattern": "stride", "window": 2**31 - 1,
                                                "sink": 2**31 - 1, "stride": 2**31 - 1}})
        self.end(self.command("prefill", model), 0)

    def test_batch(self):
        model = self.model()
        batch = self.folder / "batch.jsonl"
        batch.write_text(json.dumps({"tokens": [1, 2**64 - 1]}) + "\n")
        result = self.end(["prefill", "--model", model, "--batch", batch, "--out-dir",
                           self.folder / "out"], 3, batch, "line 1")
        self.assertNotIn("-1", result.stderr.split("line 1")[1])


class Notes(BadModel):
    def test_the_same_for_every_command(self):
        config = {"max_position_embeddings": 7,
                  "dual_chunk_attention_config": {"chunk_size": 8, "local_size": 4},
                  "rope_scaling": {"type": "yarn", "factor": 2.0, "attn_factor": 0.5,
                                   "original_max_position_embeddings": 4}}
        model = self.model(config)
        found = {name: self.notes(self.end(self.command(name, model), 0))
                 for name in ("prefill", "score", "plan")}
        text = "\n".join(found["prefill"])
        for word in ("attn_factor", "dual_chunk_attention_config", "7 positions", "no --attention"):
            self.assertEqual(text.count(word), 1, text)
        self.assertEqual(sorted(found["score"]), sorted(found["prefill"]))
        self.assertEqual(sorted(found["plan"]), sorted(found["prefill"]))
        self.assertEqual(self.notes(self.end(self.command("prefill", model, "--quiet"), 0)), [])
        more = self.notes(self.end(self.decode(model, "--tokens", self.tokens), 0))
        self.assertEqual(["7 positions" in note or "dual_chunk" in note for note in more],
                         [True, True])
        usual = self.notes(self.end(self.command("plan", self.model(), "--attention", "full"), 0))
        self.assertEqual(usual, [])

    def test_a_broken_generation_config(self):
        model = self.model()
        (model / "generation_config.json").write_text('{"eos_token_id": ')
        for command in ("prefill", "score", "plan"):
            notes = self.notes(self.end(self.command(command, model), 0))
            self.assertEqual(sum("generation_config.json" in note for note in notes), 1, notes)
        self.end(self.decode(model), 3, model / "generation_config.json", "not valid JSON")

    def test_what_is_refused(self):
        for config, word in (({"is_causal": False}, "is_causal"),
                             ({"rope_scaling": {"factor": 2.0}}, "rope_type"),
                             ({"quantization": {"bits": 4}}, "quantization")):
            model = self.model(config)
            for command in ("prefill", "plan"):
                self.end(self.command(command, model), 3, model / "config.json", word)


if __name__ == "__main__":
    unittest.main()
