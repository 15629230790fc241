#!/usr/bin/env python3
"""Draws a bench's figure from its CSV.

  bench/figures.py peers results.csv --out speed.svg [--title "16 cores of a Xeon with AMX"]

peers: tokens per second by prompt length, ours and llama.cpp's, on logarithmic axes."""

import argparse
import csv
import math
import re
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 380, 70, 46, 190, 46
COLOURS = ["#08519c", "#6baed6", "#238b45", "#a1d99b", "#a63603", "#fd8d3c", "#756bb1", "#636363"]


def speeds(path):
    """{series: [(tokens, tokens/s)]} of a CSV of peers.py."""
    series = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            if len(row) != 5 or row[0] != "peers" or row[4] != "tokens/s":
                continue
            shape, length, rest = row[1].split(" ", 2)
            if rest.startswith("llama.cpp"):
                name = " ".join(rest.split()[:2])  # without the batch that was best
            else:
                name = "powerprefill " + re.sub(r" \d+x\d+$", "", rest)
            series.setdefault(name, []).append((int(length), float(row[3])))
    return {name: sorted(points) for name, points in series.items()}


def ticks(low, high):
    """1, 2, 5, 10, ... around [low, high]."""
    steps = [mantissa * 10 ** power for power in range(-1, 9) for mantissa in (1, 2, 5)]
    first = max(i for i, step in enumerate(steps) if step <= low)
    last = min(i for i, step in enumerate(steps) if step >= high)
    return steps[first:last + 1]


def draw(series, title):
    lengths = sorted({x for points in series.values() for x, _ in points})
    rates = ticks(min(y for points in series.values() for _, y in points),
                  max(y for points in series.values() for _, y in points))
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    span = math.log(lengths[-1] / lengths[0]) or 1

    def place(x, y):
        return (LEFT + across * math.log(x / lengths[0]) / span,
                TOP + down * (1 - math.log(y / rates[0]) / math.log(rates[-1] / rates[0])))

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
             f'font-size="11"><rect width="100%" height="100%" fill="white"/>'
             f'<text x="{LEFT}" y="20" font-size="13" font-weight="bold">{title}</text>'
             f'<text x="{LEFT}" y="36" fill="#666">prefill, tokens per second, by prompt length</text>']
    for rate in rates:
        y = place(lengths[0], rate)[1]
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + across}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
                     f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{rate:g}</text>')
    for length in lengths:
        x = place(length, rates[0])[0]
        label = f"{length // 1024}K" if length % 1024 == 0 else str(length)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{TOP + down}" stroke="#eee"/>'
                     f'<text x="{x:.1f}" y="{TOP + down + 16}" text-anchor="middle">{label}</text>')
    labels = []
    for (name, points), colour in zip(series.items(), COLOURS):
        line = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in points)
        dash = ' stroke-dasharray="5 3"' if name.startswith("llama.cpp") else ""
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        parts += ['<circle cx="{:.1f}" cy="{:.1f}" r="3" fill="{}"/>'.format(*place(*point), colour) for point in points]
        labels.append([place(*points[-1])[1], name, colour])
    labels.sort()
    for above, label in zip(labels, labels[1:]):  # no label on another
        label[0] = max(label[0], above[0] + 14)
    parts += [f'<text x="{LEFT + across + 8}" y="{y + 4:.1f}" fill="{colour}">{name}</text>' for y, name, colour in labels]
    return "\n".join(parts) + "\n</svg>\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=["peers"])
    parser.add_argument("results", type=Path, help="what the bench printed")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--title", default="Qwen2-0.5B shape")
    options = parser.parse_args()
    series = speeds(options.results)
    if not series:
        parser.error(f"{options.results} has no speeds")
    options.out.write_text(draw(series, options.title))


if __name__ == "__main__":
    main()
