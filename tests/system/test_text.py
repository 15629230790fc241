"""Text in, text out: prompts as text, decoded text, and many prompts in one file.

    POWERPREFILL=build/powerprefill /usr/bin/python3 tests/system/test_text.py [-v] [NAME ...]

The tokenizer is a small one that this test trains; its ids are computed here by the definition.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import h5py

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import checkpoint as ck  # noqa: E402
import tokenizer as tk  # noqa: E402

TEXT = "the quick brown fox jumps over the lazy dog and then the other dog jumps over the fox 12 times"
BEGIN, END = "<|begin|>", "<|end|>"
OPTIONS = ["--threads", 1, "--attention", "power", "--window", 2, "--block", 8, "--quiet"]
TOKENIZER = tk.Tokenizer(TEXT, merges=40, special=[BEGIN, END])
SPEC = ck.Spec(vocabulary=TOKENIZER.size)

folder = None
model = None


def setUpModule():
    global folder, model
    holder = tempfile.TemporaryDirectory(prefix="powerprefill-text-")
    unittest.addModuleCleanup(holder.cleanup)
    folder = Path(holder.name)
    model = ck.write_checkpoint(folder / "model", SPEC)
    TOKENIZER.write(model, BEGIN)


def make_model(name, **config):
    path = ck.write_checkpoint(folder / name, SPEC, config=config)
    TOKENIZER.write(path, BEGIN)
    return path


def tokens_of(cache):
    with h5py.File(cache) as file:
        record = max(file["commit"][:].view("<u8")[:, :4], key=lambda row: row[2])
        return file["tokens"][:int(record[3])].tolist()


def whole(text):
    return [TOKENIZER.special[BEGIN]] + TOKENIZER.encode(text)


class Case(unittest.TestCase):
    def setUp(self):
        self.here = Path(tempfile.mkdtemp(dir=folder))

    def run_well(self, *arguments, ranks=None):
        result = ck.run(arguments, ranks)
        self.assertEqual(result.code, 0, result)
        return result

    def refused(self, code, words, *arguments, ranks=None):
        result = ck.run(arguments, ranks)
        self.assertEqual(result.code, code, result)
        self.assertEqual(result.stderr.count("powerprefill: error"), 1, result)
        for word in words:
            self.assertIn(str(word), result.stderr, result)

    def prefill(self, *prompt, ranks=None, out="kv.h5", of=None):
        out = self.here / out
        self.run_well("prefill", "--model", of or model, *OPTIONS, "--force", "--out", out, *prompt, ranks=ranks)
        return out

    def decode(self, cache, *options, ranks=None, of=None):
        return self.run_well("decode", cache, "--model", of or model, "--threads", 1, "--quiet",
                             "--max-new-tokens", 24, *options, ranks=ranks).stdout

    def refused_usage(self, words, *arguments):
        result = ck.run(arguments, 2)
        self.assertEqual(result.code, 2, result)
        for word in words:
            self.assertIn(word, result.stderr + result.stdout)


class Text(Case):
    def test_prompt_becomes_the_tokenizers_ids(self):
        text = f"the fox {END} jumps\nover 42 dogs"
        self.assertEqual(tokens_of(self.prefill("--prompt", text)), whole(text))
        self.assertEqual(tokens_of(self.prefill("--prompt", text, ranks=3)), whole(text))
        self.assertEqual(tokens_of(self.prefill("--prompt", text, "--raw")), TOKENIZER.plain(text))

    def test_prompt_file_and_standard_input(self):
        text = TEXT + "\n"
        file = self.here / "prompt.txt"
        file.write_text(text)
        self.assertEqual(tokens_of(self.prefill("--prompt-file", file, ranks=2)), whole(text))
        out = self.here / "piped.h5"
        for ranks in (None, 2):
            command = ck.launch(["prefill", "--model", model, *OPTIONS, "--force", "--out", out, "--prompt-file", "-"],
                                ranks)
            done = subprocess.run(command, input=text, text=True, capture_output=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(tokens_of(out), whole(text))

    def test_one_prompt_is_needed(self):
        here = ["prefill", "--model", model, "--out", self.here / "x.h5"]
        self.refused_usage(["--prompt", "--tokens"], *here)
        self.refused_usage(["--prompt", "--prompt-file"], *here, "--prompt", "a", "--prompt-file", "b")
        self.refused_usage(["--batch"], "prefill", "--model", model, "--prompt", "a", "--out-dir", self.here)
        self.refused_usage(["--out"], "prefill", "--model", model, "--prompt", "a")

    def test_bad_text(self):
        file = self.here / "latin1.txt"
        file.write_bytes("caf\xe9 au lait".encode("latin-1"))
        for ranks in (None, 3):
            out = self.here / "x.h5"
            self.refused(3, ["byte 3", "UTF-8"], "prefill", "--model", model, "--prompt-file", file, "--out", out,
                         ranks=ranks)
            self.refused(3, [self.here], "prefill", "--model", model, "--prompt-file", self.here, "--out", out,
                         ranks=ranks)
            self.assertFalse(out.exists())

    def test_checkpoints_without_a_tokenizer(self):
        bare = self.here / "bare"
        ck.write_checkpoint(bare, SPEC)
        for ranks in (None, 2):
            self.refused(3, ["tokenizer.json", "--tokens"], "prefill", "--model", bare, "--prompt", "a", "--out",
                         self.here / "x.h5", ranks=ranks)
        tokens = self.here / "ids.txt"
        tokens.write_text("1 2 3")
        ids = self.decode(self.prefill("--tokens", tokens, of=bare), of=bare).split()
        self.assertTrue(all(0 <= int(id) < SPEC.vocabulary for id in ids))

    def test_unsupported_tokenizers_are_named(self):
        other = make_model(f"unigram-{self.here.name}")
        file = other / "tokenizer.json"
        content = json.loads(file.read_text())
        content["model"]["type"] = "Unigram"
        file.write_text(json.dumps(content))
        self.refused(3, ["Unigram", "tokenizer.json"], "prefill", "--model", other, "--prompt", "a", "--out",
                     self.here / "x.h5", ranks=2)

    @unittest.skipUnless(shutil.which("spm_train"), "needs Debian's sentencepiece")
    def test_sentencepiece(self):
        (self.here / "text.txt").write_text((TEXT + "\n") * 20)
        subprocess.run(["spm_train", "--input", self.here / "text.txt", "--model_prefix", self.here / "m", "--vocab_size", "300",
                        "--model_type", "bpe", "--byte_fallback", "--minloglevel", "2"], check=True, capture_output=True)
        other = ck.write_checkpoint(self.here / "model", ck.Spec(vocabulary=300))
        file = shutil.copy(self.here / "m.model", other / "tokenizer.model")

        def spm(program, kind, text):
            command = [program, f"--model={file}", f"--{'output' if program == 'spm_encode' else 'input'}_format={kind}"]
            return subprocess.run(command, input=text, text=True, check=True, capture_output=True).stdout

        text = "the quick dog  over \u4f60 and 12 caf\u00e9"
        ids = [int(id) for id in spm("spm_encode", "id", text).split()]
        self.assertEqual(tokens_of(self.prefill("--prompt", text, of=other)), [1] + ids)
        self.assertEqual(tokens_of(self.prefill("--prompt", f"{text}</s>", of=other, out="end.h5")), [1] + ids + [2])
        cache = self.prefill("--prompt", text, "--raw", of=other, out="raw.h5")
        self.assertEqual(tokens_of(cache), ids)
        words = [id for id in map(int, self.decode(cache, "--ids", of=other).split())]
        plain = self.decode(cache, of=other)
        if all(id >= 259 for id in words):  # no broken bytes, of which SentencePiece has a view of its own
            self.assertEqual(plain, spm("spm_decode", "id", " ".join(map(str, words))))

    def bytes_of(self, ids):
        """What the ids read as: special tokens nothing, broken bytes U+FFFD."""
        unspell = {character: byte for byte, character in TOKENIZER.spell.items()}
        spelling = {id: token for token, id in TOKENIZER.ids.items()}
        data = b"".join(bytes(unspell[c] for c in spelling.get(id, "")) for id in ids)
        return data.decode(errors="replace")

    def test_decode_prints_text(self):
        cache = self.prefill("--prompt", TEXT)
        sampling = ["--temperature", 2, "--seed", 5]
        ids = [int(id) for id in self.decode(cache, "--ids", *sampling).split()]
        self.assertEqual(len(ids), 24)
        for ranks in (None, 3):
            # Universal newlines are the test's, not the program's.
            text = self.decode(cache, *sampling, ranks=ranks)
            expected = self.bytes_of(ids).replace("\r\n", "\n").replace("\r", "\n") + "\n"
            self.assertEqual(text, expected)

    def test_decode_stops_at_the_end_token(self):
        ids = [int(id) for id in self.decode(self.prefill("--prompt", TEXT), "--ids", "--temperature", 2).split()]
        at = next(i for i, id in enumerate(ids) if i >= 3 and id not in ids[:i])
        ending = make_model(f"ending-{self.here.name}", eos_token_id=ids[at])
        cache = self.prefill("--prompt", TEXT, of=ending, out="ending.h5")
        again = self.decode(cache, "--ids", "--temperature", 2, of=ending).split()
        self.assertEqual([int(id) for id in again], ids[:at + 1])
        text = self.decode(cache, "--temperature", 2, of=ending)
        self.assertEqual(text, self.bytes_of(ids[:at]).replace("\r\n", "\n").replace("\r", "\n") + "\n")

    def test_decode_continues_with_text(self):
        cache = self.prefill("--prompt", TEXT)
        more = f" and the dog {END} jumps"
        tokens = self.here / "more.txt"
        tokens.write_text(" ".join(map(str, TOKENIZER.encode(more))))
        expected = self.decode(cache, "--tokens", tokens, "--ids")
        self.assertEqual(self.decode(cache, "--prompt", more, "--ids"), expected)
        self.assertEqual(self.decode(cache, "--prompt", more, "--ids", ranks=2), expected)
        self.refused_usage(["--prompt", "--tokens"], "decode", cache, "--model", model, "--prompt", "a", "--tokens", tokens)


class Batch(Case):
    def batch(self, lines, *options):
        file = self.here / "prompts.jsonl"
        file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
        return ["prefill", "--model", model, *OPTIONS[:-1], "--batch", file, "--out-dir", self.here / "out", *options]

    def test_a_cache_per_line(self):
        report = self.here / "report.json"
        lines = [{"id": "first", "prompt": TEXT}, "", {"tokens": [5, 6, 7, 8]}, {"id": "ä".encode().hex(), "prompt": "the fox"}]
        for ranks in (1, 3):
            shutil.rmtree(self.here / "out", ignore_errors=True)
            result = self.run_well(*self.batch(lines, "--report", report), ranks=ranks)
            caches = {path.name: tokens_of(path) for path in (self.here / "out").iterdir()}
            self.assertEqual(caches, {"first.h5": whole(TEXT), "3.h5": [5, 6, 7, 8], "c3a4.h5": whole("the fox")}, result)
            self.assertEqual([entry["id"] for entry in json.loads(report.read_text())["prompts"]], ["first", "3", "c3a4"])

    def test_complete_ones_are_passed_over_and_others_resumed(self):
        lines = [{"id": "a", "prompt": TEXT}, {"id": "b", "tokens": list(range(60))}]
        self.run_well(*self.batch(lines))
        expected = (self.here / "out/b.h5").read_bytes()
        before = os.stat(self.here / "out/a.h5").st_mtime_ns
        (self.here / "ids.txt").write_text(" ".join(map(str, range(24))))
        self.prefill("--tokens", self.here / "ids.txt", out="out/b.h5")
        report = self.here / "report.json"
        result = self.run_well(*self.batch(lines, "--report", report), ranks=2)
        self.assertIn("a: complete already", result.stderr)
        self.assertEqual(os.stat(self.here / "out/a.h5").st_mtime_ns, before)
        resumed = [entry["report"]["resumed_from"] for entry in json.loads(report.read_text())["prompts"]]
        self.assertEqual(resumed, [len(whole(TEXT)), 24])
        with h5py.File(self.here / "out/b.h5") as file:
            again = file["layers/0001/key"][:60].tobytes()
        (self.here / "b.h5").write_bytes(expected)
        with h5py.File(self.here / "b.h5") as file:
            self.assertEqual(again, file["layers/0001/key"][:60].tobytes())

    def test_failing_lines_are_named(self):
        good = {"id": "a", "prompt": TEXT}
        for line, words in (("{", ["line 2"]), ("[1]", ["line 2", "object"]), ({"id": "x"}, ["line 2", "either"]),
                            ({"prompt": "a", "tokens": [1]}, ["line 2", "either"]), ({"tokens": ["a"]}, ["line 2", "ids"]),
                            ({"tokens": [2**31]}, ["line 2", "ids"]), ({"prompt": 5}, ["line 2", "string"]),
                            ({"id": "../x", "prompt": "a"}, ["line 2", "../x"]), ({"id": "a", "prompt": "b"}, ["line 2", "before"])):
            self.refused(3, words, *self.batch([good, line]), ranks=2)
            self.assertFalse((self.here / "out").exists())
        for ranks in (None, 3):
            self.refused(3, ["line 2 (big)", "vocabulary"], *self.batch([good, {"id": "big", "tokens": [10**6]}]), ranks=ranks)
            self.assertEqual(tokens_of(self.here / "out/a.h5"), whole(TEXT))
            self.refused(4, ["line 1 (a)", "token 0 "], *self.batch([{"id": "a", "tokens": [0, 1]}]), ranks=ranks)
        self.run_well(*self.batch([{"id": "a", "tokens": [0, 1]}], "--force"))
        self.assertEqual(tokens_of(self.here / "out/a.h5"), [0, 1])


if __name__ == "__main__":
    unittest.main()
