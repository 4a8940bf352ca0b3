"""Sketch: a flash head. Logits ``x W^T`` are recomputed tile by tile and never stored.

Exact: no gradient is skipped, dW is accumulated in fp32 and rounded once, no atomics, so results are repeatable.
    forward  tile of tokens x slice of vocabulary -> partial log-sum-exp         2 N V d FLOPs
    dx       tile of tokens x slice of vocabulary, W streamed from L2            4 N V d
    dW       one block per tile of vocabulary, tokens streamed                   4 N V d
The vocabulary tail is peeled; ignored tokens carry lse = +inf; log2(e) rides on the multiply-add that subtracts lse; the
one-hot term is subtracted outside the loop; for dW the upstream gradient is folded into the exponent and its sign into x.

Checked: loss, dx and dW against float64 in the Triton interpreter. Never run on a GPU by its authors.
"""
# mypy: ignore-errors

from __future__ import annotations

import math
import os

import torch
import triton
import triton.language as tl

INTERPRET = os.environ.get("TRITON_INTERPRET", "0") == "1"
LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _dot(a, b, acc, UPCAST: tl.constexpr):
    if UPCAST:  # the interpreter multiplies the raw bits of bf16 operands
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision="ieee")  # only fp32 operands look at input_precision


@triton.jit
def _online(m, s, z):
    """One step of an online base-2 log-sum-exp over the columns of z."""
    new = tl.maximum(m, tl.max(z, 1) * LOG2E)
    s = s * tl.exp2(m - new) + tl.sum(tl.exp2(z * LOG2E - new[:, None]), 1)
    return new, s


@triton.jit
def _slice(ps, FULL: tl.constexpr):
    """Full tiles of slice ps. The number of slices is a launch dimension, so it costs no recompilation."""
    per = tl.cdiv(FULL, tl.num_programs(1))
    return ps * per, tl.minimum((ps + 1) * per, FULL)


# N is never specialised: one binary serves every number of tokens. V and D belong to the model.
@triton.jit(do_not_specialize=["N"])
def lce_forward_kernel(
    x,
    w,
    target,
    part,
    hit,
    N,
    V: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    BM: tl.constexpr,
    BV: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """part[s, n] = log-sum-exp of token n over slice s of the vocabulary; hit[n] = its target's logit."""
    ps = tl.program_id(1)
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rd = tl.arange(0, DP)
    rv = tl.arange(0, BV)
    rows = rm < N
    xm = rows[:, None] & (rd < D)[None, :]
    xt = tl.load(x + rm[:, None].to(tl.int64) * D + rd[None, :], mask=xm, other=0.0)
    FULL: tl.constexpr = V // BV
    lo, hi = _slice(ps, FULL)
    m = tl.full((BM,), -float("inf"), tl.float32)
    s = tl.zeros((BM,), tl.float32)
    wp = w + (lo * BV + rv)[None, :].to(tl.int64) * D + rd[:, None]
    for _ in range(lo, hi):
        m, s = _online(m, s, _dot(xt, tl.load(wp, mask=(rd < D)[:, None], other=0.0), None, UPCAST))
        wp += BV * D
    if V % BV != 0:
        if ps == tl.num_programs(1) - 1:
            tail = (FULL * BV + rv < V)[None, :]
            wp = w + (FULL * BV + rv)[None, :].to(tl.int64) * D + rd[:, None]
            z = _dot(xt, tl.load(wp, mask=tail & (rd < D)[:, None], other=0.0), None, UPCAST)
            m, s = _online(m, s, tl.where(tail, z, -float("inf")))
    tl.store(part + ps.to(tl.int64) * N + rm, (m + tl.log2(s)) * LN2, mask=rows)
    if ps == 0:
        t = tl.load(target + rm, mask=rows, other=0)
        inside = (t >= 0) & (t < V)
        wt = tl.load(w + t[:, None] * D + rd[None, :], mask=inside[:, None] & xm, other=0.0)
        z = tl.sum(xt.to(tl.float32) * wt.to(tl.float32), 1)
        tl.store(hit + rm, tl.where(inside, z, float("nan")), mask=rows)  # a target out of range must be seen


@triton.jit(do_not_specialize=["N"])
def lce_dx_kernel(
    x,
    w,
    lse2,
    part,
    N,
    V: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    BM: tl.constexpr,
    BV: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """part[s, n, :] = sum over slice s of exp2(z log2e - lse2) W[v]; scale, sum over s and one-hot follow outside."""
    ps = tl.program_id(1)
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rd = tl.arange(0, DP)
    rv = tl.arange(0, BV)
    rows = rm < N
    at = rm[:, None].to(tl.int64) * D + rd[None, :]
    xm = rows[:, None] & (rd < D)[None, :]
    xt = tl.load(x + at, mask=xm, other=0.0)
    L = tl.load(lse2 + rm, mask=rows, other=float("inf"))[:, None]
    FULL: tl.constexpr = V // BV
    lo, hi = _slice(ps, FULL)
    acc = tl.zeros((BM, DP), tl.float32)
    wp = w + (lo * BV + rv)[:, None].to(tl.int64) * D + rd[None, :]
    for _ in range(lo, hi):
        wt = tl.load(wp, mask=(rd < D)[None, :], other=0.0)
        wp += BV * D
        p = tl.exp2(_dot(xt, tl.trans(wt), None, UPCAST) * LOG2E - L)
        acc = _dot(p.to(xt.dtype), wt, acc, UPCAST)
    if V % BV != 0:
        if ps == tl.num_programs(1) - 1:
            tail = FULL * BV + rv < V
            wp = w + (FULL * BV + rv)[:, None].to(tl.int64) * D + rd[None, :]
            wt = tl.load(wp, mask=tail[:, None] & (rd < D)[None, :], other=0.0)
            p = tl.exp2(_dot(xt, tl.trans(wt), None, UPCAST) * LOG2E - L)
            acc = _dot(tl.where(tail[None, :], p, 0.0).to(xt.dtype), wt, acc, UPCAST)
    tl.store(part + ps.to(tl.int64) * N * D + at, acc, mask=xm)


@triton.jit(do_not_specialize=["N"])
def lce_dw_kernel(
    xs,
    w,
    coef,
    lse2,
    hot,
    target,
    order,
    seg,
    scale,
    dw,
    N,
    V: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    BM: tl.constexpr,
    BV: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """dW[v] = scale * (sum_n exp2(coef[n] z - lse2[n]) xs[n] - sum over tokens with target v of hot[n] xs[n]).

    coef is +-log2(e), with the sign of the upstream gradient; lse2 already holds minus log2 of its magnitude.
    """
    pv = tl.program_id(0)
    rv = pv * BV + tl.arange(0, BV)
    rd = tl.arange(0, DP)
    rm = tl.arange(0, BM)
    at = rv[:, None].to(tl.int64) * D + rd[None, :]
    wm = (rv < V)[:, None] & (rd < D)[None, :]
    wt = tl.load(w + at, mask=wm, other=0.0)
    acc = tl.zeros((BV, DP), tl.float32)
    xp = xs + rm[:, None] * D + rd[None, :]
    cp, lp = coef + rm, lse2 + rm
    for _ in range(0, N // BM):
        xt = tl.load(xp, mask=(rd < D)[None, :], other=0.0)
        p = tl.exp2(_dot(wt, tl.trans(xt), None, UPCAST) * tl.load(cp)[None, :] - tl.load(lp)[None, :])
        acc = _dot(p.to(xt.dtype), xt, acc, UPCAST)
        xp += BM * D
        cp += BM
        lp += BM
    left = N - (N // BM) * BM
    if left > 0:
        ok = rm < left
        xt = tl.load(xp, mask=ok[:, None] & (rd < D)[None, :], other=0.0)
        c = tl.load(cp, mask=ok, other=0.0)[None, :]
        L = tl.load(lp, mask=ok, other=float("inf"))[None, :]
        p = tl.exp2(_dot(wt, tl.trans(xt), None, UPCAST) * c - L)
        acc = _dot(p.to(xt.dtype), xt, acc, UPCAST)
    end = tl.load(seg + pv + 1)
    for k in range(tl.load(seg + pv), end, BM):  # the tokens whose target lies in this tile, in sorted order
        ok = k + rm < end
        n = tl.load(order + k + rm, mask=ok, other=0)
        t = tl.load(target + n, mask=ok, other=-1)
        h = tl.load(hot + n, mask=ok, other=0.0)
        xt = tl.load(xs + n[:, None] * D + rd[None, :], mask=ok[:, None] & (rd < D)[None, :], other=0.0)
        e = tl.where(rv[:, None] == t[None, :], -h[None, :], 0.0)
        acc = _dot(e.to(xt.dtype), xt, acc, UPCAST)
    tl.store(dw + at, acc * tl.load(scale), mask=wm)


# (tokens, vocabulary, warps, stages) for forward, dx and dW by padded width: best instruction counts of a small sweep
TILES = {
    32: ((128, 128, 4, 2), (128, 128, 4, 2), (64, 128, 4, 2)),
    64: ((128, 128, 4, 2), (128, 64, 4, 2), (64, 128, 4, 2)),
    128: ((128, 128, 8, 2), (128, 128, 8, 2), (128, 128, 8, 2)),
    256: ((128, 128, 8, 2), (128, 64, 8, 2), (64, 128, 8, 2)),
}


class FlashLinearCE(torch.autograd.Function):
    """Per-token loss [N] in fp32; 0 for ignored tokens, NaN for targets outside the vocabulary."""

    @staticmethod
    def forward(ctx, x, w, target, ignore_index):
        if x.dim() != 2 or w.dim() != 2 or x.numel() == 0 or x.shape[1] != w.shape[1] or target.shape != x.shape[:1]:
            raise ValueError(
                "linear_cross_entropy: expected non-empty x [N, d], w [V, d] and target [N], got "
                f"x {tuple(x.shape)}, w {tuple(w.shape)}, target {tuple(target.shape)}"
            )
        x, w, target = x.contiguous(), w.contiguous(), target.contiguous()
        (N, D), V = x.shape, w.shape[0]
        DP = max(32, triton.next_power_of_2(D))
        if DP not in TILES:
            raise ValueError(f"linear_cross_entropy: d must be at most 256 here, got {D}")
        BM, BV, warps, stages = TILES[DP][0]
        split = _split(N, BM, V // BV)
        part = torch.empty((split, N), dtype=torch.float32, device=x.device)
        hit = torch.empty((N,), dtype=torch.float32, device=x.device)
        lce_forward_kernel[(triton.cdiv(N, BM), split)](
            x,
            w,
            target,
            part,
            hit,
            N,
            V=V,
            D=D,
            DP=DP,
            BM=BM,
            BV=BV,
            UPCAST=INTERPRET,
            num_warps=warps,
            num_stages=stages,
        )
        lse = torch.logsumexp(part, 0)
        ctx.save_for_backward(x, w, target, lse)
        ctx.ignore_index = ignore_index
        return torch.where(target == ignore_index, torch.zeros_like(lse), lse - hit)

    @staticmethod
    def backward(ctx, g):
        x, w, target, lse = ctx.saved_tensors
        (N, D), V = x.shape, w.shape[0]
        DP = max(32, triton.next_power_of_2(D))
        shift = 1024.0 if x.dtype == torch.float16 else 1.0  # keeps p = 1/V out of fp16's subnormals
        ignored = target == ctx.ignore_index
        known = target.clamp(0, V - 1)
        g = torch.where(ignored, 0.0, torch.where(known == target, g.float(), float("nan")))
        lse2 = torch.where(ignored, float("inf"), lse * math.log2(math.e) - math.log2(shift))

        BM, BV, warps, stages = TILES[DP][1]
        split = _split(N, BM, V // BV)
        part = torch.empty((split, N, D), dtype=torch.float32, device=x.device)
        lce_dx_kernel[(triton.cdiv(N, BM), split)](
            x, w, lse2, part, N, V=V, D=D, DP=DP, BM=BM, BV=BV, UPCAST=INTERPRET, num_warps=warps, num_stages=stages
        )
        dx = (part.sum(0) / shift - w[known].float()) * g[:, None]

        BM, BV, warps, stages = TILES[DP][2]
        gmax = g.abs().max().clamp_min(1e-30)
        hot = g.abs() / gmax
        sign = torch.where(g < 0, -1.0, 1.0)
        order = torch.argsort(known, stable=True)
        edges = torch.arange(triton.cdiv(V, BV) + 1, device=x.device) * BV
        seg = torch.searchsorted(known[order], edges)
        dw = torch.empty((V, D), dtype=torch.float32, device=x.device)
        lce_dw_kernel[(triton.cdiv(V, BV),)](
            (x * sign[:, None]).to(x.dtype),
            w,
            sign * math.log2(math.e),
            lse2 - torch.log2(hot),
            hot * shift,
            known,
            order,
            seg,
            gmax / shift,
            dw,
            N,
            V=V,
            D=D,
            DP=DP,
            BM=BM,
            BV=BV,
            UPCAST=INTERPRET,
            num_warps=warps,
            num_stages=stages,
        )
        return dx.to(x.dtype), dw.to(w.dtype), None, None


def _split(N, BM, tiles):
    """Slices of the vocabulary, none empty, so that few tokens still fill about two waves of 132 multiprocessors."""
    return max(1, min(16, tiles, 264 // triton.cdiv(N, BM)))
