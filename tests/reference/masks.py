"""The masks of all patterns, from the paper's definitions (Algorithm 1 and appendix D), as
expressions over a grid of query blocks i and key blocks j."""

import numpy as np


def attended_blocks(spec, blocks):
    """(blocks, blocks) of bool: does query block i (row) attend to key block j (column)?"""
    i = np.arange(blocks)[:, None]
    j = np.arange(blocks)[None, :]
    d = i - j
    name = spec["pattern"]
    if name == "power":
        mask = (j < spec["sink"]) | (d < spec["window"]) | ((d & (d - 1)) == 0)
    elif name == "sliding":
        mask = (d < spec["window"]) | (j < spec["sink"])
    elif name == "stride":
        mask = (d < spec["window"]) | (d % spec["stride"] == 0) | (j < spec["sink"])
    elif name == "dilated":
        mask = (d % 2 == 0) & (d < spec["window"])
    elif name == "longnet":
        x, o = i ^ j, i | j
        mask = ((x < 8) | ((x < 16) & (o % 2 == 0)) | ((x < 32) & (o % 4 == 0)) |
                ((x < 64) & (o % 8 == 0)) | ((x < 128) & (o % 16 == 0)))
    elif name == "mask":
        mask = np.isin(d, spec["distances"]) | (j < spec["sink"])
    elif name == "full":
        mask = np.ones((blocks, blocks), bool)
    else:
        raise ValueError(f"unknown pattern {name}")
    return mask & (d >= 0)


def attended_tokens(spec, tokens, block):
    """(tokens, tokens) of bool; inside an attended pair of blocks a token sees no later ones."""
    position = np.arange(tokens)
    of = position // block
    blocks = attended_blocks(spec, int(of[-1]) + 1)
    return blocks[of[:, None], of[None, :]] & (position[None, :] <= position[:, None])


def reached_blocks(spec, blocks, layers):
    """(blocks) of bool: whose tokens can the last block know of after so many layers?"""
    attended = attended_blocks(spec, blocks)
    reached = np.zeros(blocks, bool)
    reached[-1] = True
    for _ in range(layers):
        reached = reached | attended[reached].any(0)
    return reached
