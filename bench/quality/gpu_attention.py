#!/usr/bin/env python3
"""Block-sparse attention for training on a GPU: Triton kernels that touch exactly the attended blocks.

A row of T tokens holds T / (32 n) prompts of n blocks each, which do not see each other. The queries of
all heads that share a key head are one tile of rows; its key blocks come from a list per query block,
and in the backward pass the query blocks from a list per key block. Run as a program it compares
outputs and gradients with dense attention in f32."""

import argparse
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "reference")]
from support import needs  # noqa: E402

needs.modules("numpy", "torch", "triton")
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
import triton  # noqa: E402
import triton.language as tl  # noqa: E402

from masks import attended_blocks, attended_tokens  # noqa: E402


@triton.jit
def tile(base, heads, tokens, stride_head, stride_token, D: tl.constexpr):
    """Addresses of rows (heads[r], tokens[r]) of D values."""
    return base + heads[:, None] * stride_head + tokens[:, None] * stride_token + tl.arange(0, D)[None, :]


@triton.jit
def forward_kernel(q_, k_, v_, o_, lse_, offsets, lists, qh, qt, kh, kt, vh, vt, oh, ot, tokens, blocks, scale,
                   BLOCK: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr):
    group, block = tl.program_id(0), tl.program_id(1)
    within = block % blocks
    rows, keys = tl.arange(0, BLOCK * GROUP), tl.arange(0, BLOCK)
    heads, queries = group * GROUP + rows // BLOCK, block * BLOCK + rows % BLOCK
    q = tl.load(tile(q_, heads, queries, qh, qt, D))
    best = tl.full([BLOCK * GROUP], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK * GROUP], tl.float32)
    sums = tl.zeros([BLOCK * GROUP, D], tl.float32)
    for entry in range(tl.load(offsets + within), tl.load(offsets + within + 1)):
        seen = (block - within + tl.load(lists + entry)) * BLOCK + keys
        k = tl.load(tile(k_, group + 0 * keys, seen, kh, kt, D))
        v = tl.load(tile(v_, group + 0 * keys, seen, vh, vt, D))
        s = tl.dot(q, tl.trans(k)) * (scale * 1.4426950408889634)
        s = tl.where(seen[None, :] <= queries[:, None], s, float("-inf"))
        higher = tl.maximum(best, tl.max(s, 1))
        p = tl.exp2(s - higher[:, None])
        shrink = tl.exp2(best - higher)
        total = total * shrink + tl.sum(p, 1)
        sums = sums * shrink[:, None] + tl.dot(p.to(v.dtype), v)
        best = higher
    tl.store(tile(o_, heads, queries, oh, ot, D), (sums / total[:, None]).to(o_.dtype.element_ty))
    tl.store(lse_ + heads * tokens + queries, best + tl.log2(total))


@triton.jit
def query_gradient_kernel(q_, k_, v_, o_, do_, dq_, lse_, delta_, offsets, lists, qh, qt, kh, kt, vh, vt, oh, ot,
                          doh, dot, dqh, dqt, tokens, blocks, scale,
                          BLOCK: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr):
    group, block = tl.program_id(0), tl.program_id(1)
    within = block % blocks
    rows, keys = tl.arange(0, BLOCK * GROUP), tl.arange(0, BLOCK)
    heads, queries = group * GROUP + rows // BLOCK, block * BLOCK + rows % BLOCK
    q = tl.load(tile(q_, heads, queries, qh, qt, D))
    do = tl.load(tile(do_, heads, queries, doh, dot, D))
    o = tl.load(tile(o_, heads, queries, oh, ot, D))
    lse = tl.load(lse_ + heads * tokens + queries)
    delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    tl.store(delta_ + heads * tokens + queries, delta)
    dq = tl.zeros([BLOCK * GROUP, D], tl.float32)
    for entry in range(tl.load(offsets + within), tl.load(offsets + within + 1)):
        seen = (block - within + tl.load(lists + entry)) * BLOCK + keys
        k = tl.load(tile(k_, group + 0 * keys, seen, kh, kt, D))
        v = tl.load(tile(v_, group + 0 * keys, seen, vh, vt, D))
        s = tl.dot(q, tl.trans(k)) * (scale * 1.4426950408889634)
        p = tl.where(seen[None, :] <= queries[:, None], tl.exp2(s - lse[:, None]), 0.0)
        ds = p * (tl.dot(do, tl.trans(v)) - delta[:, None])
        dq += tl.dot(ds.to(k.dtype), k)
    tl.store(tile(dq_, heads, queries, dqh, dqt, D), (dq * scale).to(dq_.dtype.element_ty))


@triton.jit
def key_gradient_kernel(q_, k_, v_, do_, dk_, dv_, lse_, delta_, offsets, lists, qh, qt, kh, kt, vh, vt, doh, dot,
                        dkh, dkt, dvh, dvt, tokens, blocks, scale,
                        BLOCK: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr):
    group = tl.program_id(0)
    prompts = tokens // (blocks * BLOCK)
    within = tl.program_id(1) // prompts  # the sinks, which all queries read, go first
    first = tl.program_id(1) % prompts * blocks
    rows, keys = tl.arange(0, BLOCK * GROUP), tl.arange(0, BLOCK)
    heads = group * GROUP + rows // BLOCK
    seen = (first + within) * BLOCK + keys
    k = tl.load(tile(k_, group + 0 * keys, seen, kh, kt, D))
    v = tl.load(tile(v_, group + 0 * keys, seen, vh, vt, D))
    dk = tl.zeros([BLOCK, D], tl.float32)
    dv = tl.zeros([BLOCK, D], tl.float32)
    for entry in range(tl.load(offsets + within), tl.load(offsets + within + 1)):
        queries = (first + tl.load(lists + entry)) * BLOCK + rows % BLOCK
        q = tl.load(tile(q_, heads, queries, qh, qt, D))
        do = tl.load(tile(do_, heads, queries, doh, dot, D))
        lse = tl.load(lse_ + heads * tokens + queries)
        delta = tl.load(delta_ + heads * tokens + queries)
        s = tl.dot(q, tl.trans(k)) * (scale * 1.4426950408889634)
        p = tl.where(seen[None, :] <= queries[:, None], tl.exp2(s - lse[:, None]), 0.0)
        dv += tl.dot(tl.trans(p.to(do.dtype)), do)
        ds = p * (tl.dot(do, tl.trans(v)) - delta[:, None])
        dk += tl.dot(tl.trans(ds.to(q.dtype)), q)
    tl.store(tile(dk_, group + 0 * keys, seen, dkh, dkt, D), (dk * scale).to(dk_.dtype.element_ty))
    tl.store(tile(dv_, group + 0 * keys, seen, dvh, dvt, D), dv.to(dv_.dtype.element_ty))


class Lists:
    """Which blocks attend to which, as the kernels read it: of a mask (n, n) of bool over the blocks of
    a prompt, the columns of every row and the rows of every column."""

    def __init__(self, attended, block, device):
        self.block, self.blocks = block, len(attended)
        for name, mask in (("keys", attended), ("queries", attended.T)):
            offsets = np.concatenate(([0], np.cumsum(mask.sum(1))))
            setattr(self, name, [torch.from_numpy(part.astype(np.int32)).to(device)
                                 for part in (offsets, np.nonzero(mask)[1])])


def strides(*tensors):
    """(of heads, of tokens) of each (1, heads, T, D), whose values lie end to end."""
    if any(x.stride(3) != 1 for x in tensors):
        raise ValueError("attention needs the values of a head end to end")
    return [x.stride(i) for x in tensors for i in (1, 2)]


def empty_like(x):
    """(1, heads, T, D) with tokens outermost in memory, as the linear layers have it."""
    _, heads, tokens, size = x.shape
    return x.new_empty(1, tokens, heads, size).transpose(1, 2)


class SparseAttention(torch.autograd.Function):
    """apply(q (1, H, T, D), k, v (1, G, T, D), Lists) gives (1, H, T, D)."""

    @staticmethod
    def forward(ctx, q, k, v, lists):
        ctx.lists, tokens, groups = lists, q.shape[2], k.shape[1]
        o, lse = empty_like(q), q.new_empty(q.shape[1], tokens, dtype=torch.float32)
        ctx.grid = (groups, tokens // lists.block)
        ctx.shape = dict(tokens=tokens, blocks=lists.blocks, scale=q.shape[3] ** -0.5, BLOCK=lists.block,
                         GROUP=q.shape[1] // groups, D=q.shape[3])
        forward_kernel[ctx.grid](q, k, v, o, lse, *lists.keys, *strides(q, k, v, o), **ctx.shape, num_stages=2)
        ctx.save_for_backward(q, k, v, o, lse)
        return o

    @staticmethod
    def backward(ctx, do):
        q, k, v, o, lse = ctx.saved_tensors
        do = do if do.stride(3) == 1 else do.contiguous()
        dq, dk, dv, delta = empty_like(q), empty_like(k), empty_like(v), torch.empty_like(lse)
        query_gradient_kernel[ctx.grid](q, k, v, o, do, dq, lse, delta, *ctx.lists.keys,
                                        *strides(q, k, v, o, do, dq), **ctx.shape, num_stages=2)
        key_gradient_kernel[ctx.grid](q, k, v, do, dk, dv, lse, delta, *ctx.lists.queries,
                                      *strides(q, k, v, do, dk, dv), **ctx.shape, num_stages=2)
        return dq, dk, dv, None


class GpuAttention:
    """Attention under a pattern over one row of prompts of the length that mask() was last told. It
    keeps the mask to itself: layers that were given one would be compiled again for every length."""

    def __init__(self, spec, device):
        self.spec, self.device, self.lists = spec, device, {}

    def mask(self, length):
        self.length = length
        if self.spec["pattern"] != "full" and length not in self.lists:
            block = self.spec["block"]
            self.lists[length] = Lists(attended_blocks(self.spec, length // block), block, self.device)

    @torch.compiler.disable
    def __call__(self, q, k, v, mask):
        if self.spec["pattern"] != "full":
            return SparseAttention.apply(q, k, v, self.lists[self.length])
        prompts = [x[0].unflatten(1, (-1, self.length)).transpose(0, 1) for x in (q, k, v)]
        attended = F.scaled_dot_product_attention(*prompts, is_causal=True, enable_gqa=True)
        return attended.transpose(0, 1).flatten(1, 2)[None]


def check():
    """Errors of the output and of all gradients, relative to dense attention in f32."""
    from model import dense_attention
    worst = 0.0
    for spec in ({"pattern": "power", "window": 2, "sink": 1}, {"pattern": "sliding", "window": 3, "sink": 1},
                 {"pattern": "stride", "window": 2, "sink": 1, "stride": 5}, {"pattern": "dilated", "window": 6},
                 {"pattern": "longnet"}):
        for length in (32, 256, 1024):
            lists = Lists(attended_blocks(spec, length // 32), 32, "cuda")
            allowed = torch.from_numpy(attended_tokens(spec, length, 32)).cuda()
            parts = [torch.randn(1, heads, 2048, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
                     for heads in (4, 2, 2)]
            out = SparseAttention.apply(*parts, lists)
            wide = [part.detach().float().requires_grad_() for part in parts]
            expected = torch.cat([dense_attention(*(x[:, :, i:i + length] for x in wide), allowed)
                                  for i in range(0, 2048, length)], 2)
            weights = torch.randn_like(expected)
            (out.float() * weights).sum().backward()
            (expected * weights).sum().backward()
            errors = [float(((a.float() - b).norm() / b.norm()).detach()) for a, b in
                      [(out, expected), *((part.grad, full.grad) for part, full in zip(parts, wide))]]
            print(spec["pattern"], length, *(f"{error:.1e}" for error in errors), flush=True)
            worst = max(worst, *(error if error == error else 1.0 for error in errors))
    return worst


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    sys.exit(check() > 1e-2)
