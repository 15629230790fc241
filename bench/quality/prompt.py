#!/usr/bin/env python3
"""Writes the text of data/prompt.txt: filler with a pass key in it, and no question.

    bench/quality/prompt.py [--tokens 16384] [--depth 0.3] [--seed 1] > data/prompt.txt"""

import argparse
import random
import sys

import task
from evaluate import evaluation_filler


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=16384, help="at most, with a question and its answer")
    parser.add_argument("--depth", type=float, default=0.3, help="of the pass key, from 0 to 1")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    vocabulary = task.Vocabulary()
    filler = evaluation_filler(vocabulary)
    prompt = task.make_prompt(vocabulary, filler, random.Random(options.seed), "passkey", options.tokens,
                              [options.depth])
    text = vocabulary.decode(prompt.ids)
    sys.stdout.write(text[:text.rindex(" " + task.QUESTION.format(c=""))].lstrip())


if __name__ == "__main__":
    main()
