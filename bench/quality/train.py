#!/usr/bin/env python3
"""Trains a small model from scratch under an attention pattern on pass keys in filler text (task.py).

    bench/quality/train.py --attention power --steps 3000 --out FOLDER

The loss is that of the answer; of an auxiliary head, dropped afterwards, that names each key at every
token behind it; and, with little weight, of every token. Prompts grow by doubling. A step is one row
of --row tokens with as many prompts as fit. On a GPU attention reads the blocks that the pattern
touches (gpu_attention.py); on a CPU it is dense, for small trials. FOLDER becomes an ordinary checkpoint with
log.csv beside it; accuracy by length and depth is printed at the end. Needs torch (seen with 2.11 on a
GPU, 1.13 on a CPU) and numpy."""

import argparse
import contextlib
import csv
import json
import random
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "reference")]
from support import needs  # noqa: E402

needs.modules("numpy", "torch")
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch.utils.data import DataLoader, IterableDataset  # noqa: E402

import task  # noqa: E402
from masks import attended_tokens  # noqa: E402
from model import Model, Shape, dense_attention, describe, rotary, save  # noqa: E402

if torch.cuda.is_available():
    from gpu_attention import GpuAttention

SLOTS = len(task.COLOURS)
AUXILIARY, EVERY_TOKEN = 1.0, 0.05  # weights of the losses, beside 1 for the answer


def pattern_of(options):
    spec = {"pattern": options.attention, "block": options.block}
    for name in ("window", "sink", "stride"):
        if getattr(options, name) is not None:
            spec[name] = getattr(options, name)
    return spec


class Curriculum:
    """What each step trains on: prompts of the stage's length, or sometimes of a shorter one. The
    longest has LONGEST of the steps, the others share the rest."""

    LONGEST, SHORTER = 0.45, 0.3

    def __init__(self, options):
        self.lengths, self.steps = options.lengths, options.steps

    def length(self, step, draw):
        last = len(self.lengths) - 1
        stage = min(last, int(step / self.steps / (1 - self.LONGEST) * last))
        if stage > 0 and draw.random() < self.SHORTER:
            stage = draw.randrange(stage)
        return self.lengths[stage]


def learning_rate(progress, warm):
    """As a part of the highest: risen after `warm` of all steps, falls over the last 30%."""
    return min(1.0, progress / warm, 0.03 + 0.97 * (1 - progress) / 0.3)


class Rows(IterableDataset):
    """Rows of prompts as arrays, made by the workers of a DataLoader in turns."""

    def __init__(self, options, vocabulary):
        self.options, self.vocabulary = options, vocabulary
        self.curriculum = Curriculum(options)
        self.filler = task.Filler(vocabulary, options.sentences, options.seed)
        self.tasks = [part.split(":") for part in options.tasks.split(",")]

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in range(first, self.options.steps, stride):
            draw = random.Random(self.options.seed * 1_000_003 + step)
            yield self.row(draw, self.curriculum.length(step, draw))

    def row(self, draw, length, task_name=None, depth=None):
        """`length` tokens a prompt, which may be shorter; padded with the end token."""
        prompts = max(1, self.options.row // length)
        row = {"ids": np.full((prompts, length), self.vocabulary.end, np.int32),
               "ends": np.zeros(prompts, np.int32), "answers": np.zeros(prompts, np.int32),
               "starts": np.full((prompts, SLOTS), length, np.int32),
               "digits": np.zeros((prompts, SLOTS, task.DIGITS), np.int32)}
        for i in range(prompts):
            name = task_name or draw.choices([name for name, _ in self.tasks],
                                             [float(weight) for _, weight in self.tasks])[0]
            tokens = length if depth is not None else draw.randint(max(128, length * 5 // 8), length)
            depths = [depth if depth is not None else max(0.0, draw.uniform(-0.1, 1.0))
                      for _ in range(1 if name == "passkey" else 2)]
            prompt = task.make_prompt(self.vocabulary, self.filler, draw, name, tokens, depths)
            row["ids"][i, :len(prompt.ids)] = prompt.ids
            row["ends"][i], row["answers"][i] = len(prompt.ids), prompt.answer
            for slot, digits, _, end in prompt.needles:
                row["starts"][i, slot], row["digits"][i, slot] = end, digits
        return {name: torch.from_numpy(values) for name, values in row.items()}


class DenseAttention:
    def __init__(self, options):
        self.options, self.masks = options, {}

    def mask(self, length):
        if length not in self.masks:
            self.masks[length] = torch.from_numpy(
                attended_tokens(pattern_of(self.options), length, self.options.block))
        return self.masks[length]

    def __call__(self, q, k, v, mask):
        return dense_attention(q, k, v, mask)


class Trainer:
    def __init__(self, options):
        self.options = options
        self.cuda = options.device == "cuda"
        torch.manual_seed(options.seed)
        torch.backends.cuda.matmul.allow_tf32 = True
        self.vocabulary = task.Vocabulary()
        self.rows = Rows(options, self.vocabulary)
        shape = Shape(self.vocabulary.size, **{name: getattr(options, name) for name in (
            "hidden", "layers", "heads", "kv_heads", "head_dim", "feed_forward") if getattr(options, name)})
        self.model = Model(shape).to(options.device)
        self.auxiliary = torch.nn.Linear(shape.hidden, SLOTS * task.DIGITS * 10).to(options.device)
        self.attention = GpuAttention(pattern_of(options), options.device) if self.cuda else DenseAttention(options)
        if self.cuda:
            for layer in self.model.layers:
                layer.compile(dynamic=False)
        print(describe(shape), f"parameters {sum(p.numel() for p in self.model.parameters())}", flush=True)

    def hidden_of(self, ids):
        prompts, length = ids.shape
        positions = torch.arange(length, device=ids.device)
        if self.cuda:  # one row, in which prompts do not see each other
            ids, positions = ids.view(1, -1), positions.repeat(prompts)
        with torch.autocast("cuda", torch.bfloat16) if self.cuda else contextlib.nullcontext():
            hidden = self.model(ids.long(), rotary(self.model.shape, positions), self.attention,
                                self.attention.mask(length))
        return hidden.view(prompts, length, -1)

    def losses(self, row):
        """(answer, auxiliary, every token), and the share of prompts answered right."""
        ids, ends = row["ids"].long(), row["ends"][:, None]
        hidden = self.hidden_of(ids)
        following = ids.roll(-1, 1)
        place = torch.arange(ids.shape[1], device=ids.device)[None]
        asked = (place + 1 >= ends - row["answers"][:, None]) & (place + 1 < ends)
        logits = self.model.logits(hidden[asked]).float()
        answer = F.cross_entropy(logits, following[asked])
        wrong = (logits.argmax(-1) != following[asked]).float()
        right = wrong.new_zeros(ids.shape).masked_scatter(asked, wrong).sum(1) == 0
        known = (place[:, :, None] >= row["starts"][:, None]) & (place < ends)[:, :, None]
        where = known.any(-1)
        named = self.auxiliary(hidden[where].float()).view(-1, SLOTS, task.DIGITS, 10)[known[where]]
        digits = row["digits"].long()[:, None].expand(-1, ids.shape[1], -1, -1)[known]
        auxiliary = F.cross_entropy(named.flatten(0, 1), digits.flatten())
        some = place[0, ::8]
        some = some[some + 1 < ids.shape[1]]
        every = F.cross_entropy(self.model.logits(hidden[:, some]).float().flatten(0, 1),
                                following[:, some].flatten(), reduction="none")
        weight = (some[None] + 1 < ends).flatten().float()
        return answer, auxiliary, (every * weight).sum() / weight.sum(), right.float().mean()

    def train(self):
        o = self.options
        parameters = [*self.model.parameters(), *self.auxiliary.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=o.lr, betas=(0.9, 0.95), weight_decay=0.01,
                                      **({"fused": True} if self.cuda else {}))
        warm = min(200 / o.steps, 0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate((step + 1) / o.steps, warm))
        loader = DataLoader(self.rows, batch_size=None, num_workers=o.workers, pin_memory=self.cuda,
                            **({"prefetch_factor": 8} if o.workers else {}))
        begin, seen, sums = time.time(), 0, {}
        o.out.mkdir(parents=True, exist_ok=True)
        with open(o.out / "log.csv", "w", newline="") as file:
            log = csv.writer(file)
            log.writerow("step seconds tokens length answer auxiliary every_token right".split())
            for step, row in enumerate(loader):
                row = {name: values.to(o.device, non_blocking=True) for name, values in row.items()}
                losses = self.losses(row)
                total = losses[0] + AUXILIARY * losses[1] + EVERY_TOKEN * losses[2]
                optimizer.zero_grad(set_to_none=True)
                total.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()
                seen += row["ids"].numel()
                sums.setdefault(row["ids"].shape[1], []).append(torch.stack([x.detach() for x in losses]))
                if (step + 1) % o.log_every == 0 or step + 1 == o.steps:
                    for length, parts in sorted(sums.items()):
                        values = [f"{value:.4f}" for value in torch.stack(parts).mean(0).tolist()]
                        line = [step + 1, f"{time.time() - begin:.1f}", seen, length, *values]
                        log.writerow(line)
                        print(*line, flush=True)
                    file.flush()
                    sums = {}
                if time.time() - begin > o.minutes * 60:
                    print(f"stopped by the clock after {step + 1} steps", flush=True)
                    break
        return seen

    @torch.no_grad()
    def accuracy(self, name, length, depth, samples):
        draw = random.Random(f"{name} {length} {depth}")
        right, count = 0.0, 0
        while count < samples:
            row = self.rows.row(draw, length, name, depth)
            row = {part: values.to(self.options.device) for part, values in row.items()}
            right += self.losses(row)[3].item() * len(row["ends"])
            count += len(row["ends"])
        return right / count

    def report(self):
        """Accuracy by length (rows) and depth, as this program finds it."""
        o = self.options
        for part in o.tasks.split(","):
            name = part.split(":")[0]
            for length in o.lengths_tested:
                cells = [self.accuracy(name, length, depth / 10, o.samples) for depth in range(10)]
                print(name, length, *(f"{cell:.2f}" for cell in cells), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attention", default="power")
    parser.add_argument("--block", type=int, default=32)
    for name in ("window", "sink", "stride"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("hidden", "layers", "heads", "kv-heads", "head-dim", "feed-forward"):
        parser.add_argument(f"--{name}", type=int, help="of the model")
    numbers = lambda text: [int(word) for word in text.split(",")]  # noqa: E731
    parser.add_argument("--lengths", type=numbers, default=[256 << i for i in range(7)], help="ascending")
    parser.add_argument("--lengths-tested", type=numbers, default=[1024, 4096, 16384, 32768])
    parser.add_argument("--tasks", default="passkey:0.6,two:0.2,chain:0.2")
    parser.add_argument("--row", type=int, default=131072, help="tokens a step")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=int, default=48, help="a cell of the table at the end")
    parser.add_argument("--sentences", type=int, default=200000, help="of filler")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=100)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    trainer = Trainer(options)
    seen = trainer.train()
    save(trainer.model, options.out, trainer.vocabulary, pattern_of(options), max(options.lengths))
    (options.out / "training.json").write_text(json.dumps(
        {"options": {name: str(value) if isinstance(value, Path) else value
                     for name, value in vars(options).items() if name != "out"},
         "tokens": seen, "torch": torch.__version__}, indent=2) + "\n")
    trainer.report()


if __name__ == "__main__":
    main()
