#!/usr/bin/env python3
"""Records what transformers 5 makes of the folders of folders.py; needs its package, tokenizers, sentencepiece and
protobuf (no torch).

    record_folders.py
"""

import json
import sys
import tempfile
from pathlib import Path

from folders import CASES, HERE, TEXTS

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from support import needs  # noqa: E402

needs.modules("transformers", "tokenizers", "sentencepiece")
import transformers  # noqa: E402


def main():
    transformers.logging.set_verbosity_error()
    rows = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = transformers.AutoTokenizer.from_pretrained(case.write(folder))
            ids = [tokenizer(text)["input_ids"] for text in TEXTS]
            rows[case.name] = {
                "ids": ids, "plain": [tokenizer.decode(row, skip_special_tokens=True) for row in ids],
                "all": [tokenizer.decode(row, skip_special_tokens=False) for row in ids]}
    lines = [f'"transformers": "{transformers.__version__}"']
    lines += [f"{json.dumps(name)}: {json.dumps(row, separators=(',', ':'))}" for name, row in rows.items()]
    (HERE / "folders.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
