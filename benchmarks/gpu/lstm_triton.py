"""Sketch: batch-tile LSTM in Triton. One block owns 8 sequences and all of W_hh and runs the whole sequence in one launch.

Shapes (time major; gate order i, f, g, o as in ``torch.nn.LSTM``; H <= 128, not necessarily a power of two):
``xg`` [T, B, 4H] pre-gates ``x W_ih^T + b``, one product made before the loop; ``w`` [4H, H] W_hh; ``hs`` [T+1, B, H] hidden
states with hs[0] = h_0; ``cs`` [T+1, B, H] cell states in fp32; ``keep`` [T, B] uint8, 0 clears a state before that step.
The gradients of W and x never enter the loop: the backward writes the gradient of xg and two products do the rest.

Checked: against a float64 loop in the Triton interpreter. Never run on a GPU by its authors.
"""
# mypy: ignore-errors

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl

INTERPRET = os.environ.get("TRITON_INTERPRET", "0") == "1"


@triton.jit
def _tanh(x, FAST: tl.constexpr):
    if FAST:  # relative error 2^-11: enough for bf16 storage
        y = tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
    else:
        # The exp2 form cannot overflow to inf/inf but loses relative accuracy near 0 (7e-6 at |x| = 0.02,
        # where a small initialisation puts every pre-gate); an odd polynomial takes over below 0.55.
        u = x * x
        p = x * (0.99999996764 + u * (-0.33332795009 + u * (0.13318876681 + u * (-0.05258930747 + u * 0.01631542332))))
        y = tl.where(tl.abs(x) < 0.55, p, 2.0 / (1.0 + tl.exp2(x * -2.8853900817779268)) - 1.0)
    return y


@triton.jit
def _sigmoid(x, FAST: tl.constexpr):
    if FAST:
        y = _tanh(x * 0.5, FAST) * 0.5 + 0.5
    else:
        y = 1.0 / (1.0 + tl.exp2(x * -1.4426950408889634))
    return y


@triton.jit
def _dot(a, b, acc, UPCAST: tl.constexpr):
    if UPCAST:  # the interpreter multiplies the raw bits of bf16 operands
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision="ieee")  # only fp32 operands look at input_precision


@triton.jit
def _load4(p, mask, H: tl.constexpr):
    return (
        tl.load(p, mask=mask, other=0.0),
        tl.load(p + H, mask=mask, other=0.0),
        tl.load(p + 2 * H, mask=mask, other=0.0),
        tl.load(p + 3 * H, mask=mask, other=0.0),
    )


@triton.jit
def _store4(p, a, b, c, d, mask, H: tl.constexpr):
    tl.store(p, a, mask=mask)
    tl.store(p + H, b, mask=mask)
    tl.store(p + 2 * H, c, mask=mask)
    tl.store(p + 3 * H, d, mask=mask)


# T and B are never specialised: one binary per (H, tile, dtype) serves every length and batch, T = 1 included.
@triton.jit(do_not_specialize=["T", "B"])
def lstm_forward_kernel(
    xg,
    w,
    hs,
    cs,
    gates,
    keep,
    T,
    B,
    H: tl.constexpr,
    HP: tl.constexpr,
    BN: tl.constexpr,
    FAST: tl.constexpr,
    SAVE: tl.constexpr,
    RESET: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """State is held transposed, [HP, BN]: the batch is the N side of the MMA, so a tile of 8 wastes nothing.

    Per step: 8 B H^2 FLOPs; per (sequence, unit) in bf16: read 8 bytes (pre-gates), write 2 (h) + 4 (c) + 8 (SAVE).
    """
    ty = w.dtype.element_ty
    rb = tl.program_id(0) * BN + tl.arange(0, BN)
    ru = tl.arange(0, HP)
    live = (rb < B)[None, :]
    mask = live & (ru < H)[:, None]  # folds away when HP == H
    wm = (ru < H)[:, None] & (ru < H)[None, :]  # padded units see weight 0 and pre-gate 0: they stay at c = h = 0
    wi, wf, wg, wo = _load4(w + ru[:, None] * H + ru[None, :], wm, H * H)
    o1 = rb[None, :].to(tl.int64) * H + ru[:, None]
    o4 = rb[None, :].to(tl.int64) * (4 * H) + ru[:, None]
    step = tl.cast(B, tl.int64) * H  # int64: T * B * 4H passes 2^31 long before memory runs out
    h = tl.load(hs + o1, mask=mask, other=0.0)
    c = tl.load(cs + o1, mask=mask, other=0.0)
    xp, hp, cp, gp, kp = xg + o4, hs + step + o1, cs + step + o1, gates + o4, keep + rb[None, :]
    xi, xf, xc, xo = _load4(xp, mask, H)
    if RESET:
        k = tl.load(kp, mask=live, other=0)
    for t in range(T):
        more = t + 1 < T  # pre-gates of step t+1 are requested one step ahead
        xp += 4 * step
        ni, nf, nc, no = _load4(xp, mask & more, H)
        if RESET:
            kp += B
            nk = tl.load(kp, mask=live & more, other=0)
            h = tl.where(k != 0, h, 0.0).to(ty)
            c = tl.where(k != 0, c, 0.0)
            k = nk
        i = _sigmoid(_dot(wi, h, xi.to(tl.float32), UPCAST), FAST)
        f = _sigmoid(_dot(wf, h, xf.to(tl.float32), UPCAST), FAST)
        g = _tanh(_dot(wg, h, xc.to(tl.float32), UPCAST), FAST)
        o = _sigmoid(_dot(wo, h, xo.to(tl.float32), UPCAST), FAST)
        c = f * c + i * g  # c stays fp32 in registers for the whole sequence
        h = (o * _tanh(c, FAST)).to(ty)
        tl.store(hp, h, mask=mask)
        tl.store(cp, c, mask=mask)
        if SAVE:
            _store4(gp, i.to(ty), f.to(ty), g.to(ty), o.to(ty), mask, H)
            gp += 4 * step
        hp += step
        cp += step
        xi, xf, xc, xo = ni, nf, nc, no


@triton.jit(do_not_specialize=["T", "B"])
def lstm_backward_kernel(
    gates,
    w,
    cs,
    keep,
    dy,
    dhn,
    dcn,
    dxg,
    dh0,
    dc0,
    T,
    B,
    H: tl.constexpr,
    HP: tl.constexpr,
    BN: tl.constexpr,
    FAST: tl.constexpr,
    PRE: tl.constexpr,
    RESET: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Reverse loop: pointwise gradients, then dh_{t-1} = W_hh^T dgates. PRE: `gates` holds pre-activations."""
    ty = w.dtype.element_ty
    rb = tl.program_id(0) * BN + tl.arange(0, BN)
    ru = tl.arange(0, HP)
    live = (rb < B)[None, :]
    mask = live & (ru < H)[:, None]  # folds away when HP == H
    wm = (ru < H)[:, None] & (ru < H)[None, :]
    wi, wf, wg, wo = _load4(w + ru[None, :] * H + ru[:, None], wm, H * H)  # W_hh^T, gate by gate
    o1 = rb[None, :].to(tl.int64) * H + ru[:, None]
    o4 = rb[None, :].to(tl.int64) * (4 * H) + ru[:, None]
    step = tl.cast(B, tl.int64) * H
    end = step * tl.cast(T - 1, tl.int64)
    gp, dp, yp, cp = gates + 4 * end + o4, dxg + 4 * end + o4, dy + end + o1, cs + end + o1
    kp = keep + tl.cast(T - 1, tl.int64) * B + rb[None, :]
    dh = tl.load(dhn + o1, mask=mask, other=0.0).to(tl.float32)
    dc = tl.load(dcn + o1, mask=mask, other=0.0)
    gi, gf, gc, go = _load4(gp, mask, H)
    yt = tl.load(yp, mask=mask, other=0.0)
    c = tl.load(cp + step, mask=mask, other=0.0)
    c_prev = tl.load(cp, mask=mask, other=0.0)  # the next iteration's c, so every c is loaded once
    if RESET:
        k = tl.load(kp, mask=live, other=0)
    for s in range(T):
        more = s + 1 < T  # everything of step t-1 is requested one step ahead
        gp -= 4 * step
        yp -= step
        cp -= step
        ni, nf, nc, no = _load4(gp, mask & more, H)
        ny = tl.load(yp, mask=mask & more, other=0.0)
        c_next = tl.load(cp, mask=mask & more, other=0.0)
        i, f, g, o = gi.to(tl.float32), gf.to(tl.float32), gc.to(tl.float32), go.to(tl.float32)
        if PRE:
            i, f, g, o = _sigmoid(i, FAST), _sigmoid(f, FAST), _tanh(g, FAST), _sigmoid(o, FAST)
        used = c_prev
        if RESET:
            kp -= B
            nk = tl.load(kp, mask=live & more, other=0)
            used = tl.where(k != 0, c_prev, 0.0)
        th = _tanh(c, FAST)
        dh += yt.to(tl.float32)
        dc += dh * o * (1.0 - th * th)
        di = (dc * g * i * (1.0 - i)).to(ty)
        df = (dc * used * f * (1.0 - f)).to(ty)
        dg = (dc * i * (1.0 - g * g)).to(ty)
        do = (dh * th * o * (1.0 - o)).to(ty)
        _store4(dp, di, df, dg, do, mask, H)
        dp -= 4 * step
        zero = tl.zeros((HP, BN), tl.float32)  # two accumulators halve the chain of dependent MMAs
        dh = _dot(wf, df, _dot(wi, di, zero, UPCAST), UPCAST) + _dot(wo, do, _dot(wg, dg, zero, UPCAST), UPCAST)
        dc = dc * f
        if RESET:
            dh = tl.where(k != 0, dh, 0.0)
            dc = tl.where(k != 0, dc, 0.0)
            k = nk
        c, c_prev, yt = c_prev, c_next, ny
        gi, gf, gc, go = ni, nf, nc, no
    tl.store(dh0 + o1, dh, mask=mask)
    tl.store(dc0 + o1, dc, mask=mask)


def tile(H: int) -> tuple[int, int]:
    """Padded H and batch tile. The padding is at least 16, the smallest side of a tensor-core product."""
    return max(16, triton.next_power_of_2(H)), 8


def default_warps(H: int) -> int:
    """A warp owns 16 rows of the product: more than H/16 warps only repeat work."""
    return 4 if tile(H)[0] <= 64 else 8


class TileLstm(torch.autograd.Function):
    """y, h_n, c_n = f(xg, w_hh, h0, c0). c0 and c_n are fp32. ``save_gates`` stores them instead of recomputing them."""

    @staticmethod
    def forward(ctx, xg, w, h0, c0, keep, save_gates, warps):
        if xg.dim() != 3 or xg.numel() == 0 or tuple(w.shape) != (xg.shape[2], xg.shape[2] // 4) or w.shape[1] > 128:
            raise ValueError(
                "lstm: expected non-empty xg [T, B, 4H] and w [4H, H] with H <= 128, "
                f"got xg {tuple(xg.shape)} and w {tuple(w.shape)}"
            )
        T, B, H = *xg.shape[:2], w.shape[1]
        xg, w = xg.contiguous(), w.contiguous()
        hs = torch.empty((T + 1, B, H), dtype=w.dtype, device=w.device)
        cs = torch.empty((T + 1, B, H), dtype=torch.float32, device=w.device)
        gates = torch.empty_like(xg) if save_gates else xg
        hs[0], cs[0] = h0, c0
        HP, BN = tile(H)
        ctx.save_gates, ctx.warps, ctx.fast = save_gates, warps, w.dtype == torch.bfloat16 and not INTERPRET
        lstm_forward_kernel[(triton.cdiv(B, BN),)](
            xg, w, hs, cs, gates, xg if keep is None else keep, T, B, H=H, HP=HP, BN=BN, FAST=ctx.fast,
            SAVE=save_gates, RESET=keep is not None, UPCAST=INTERPRET, num_warps=warps, num_stages=1,
        )  # fmt: skip
        ctx.save_for_backward(w, hs, cs, keep, gates)
        return hs[1:], hs[T], cs[T]

    @staticmethod
    def backward(ctx, dy, dhn, dcn):
        w, hs, cs, keep, gates = ctx.saved_tensors
        T, B, H = dy.shape
        h_prev = hs[:-1] if keep is None else hs[:-1] * keep[..., None]
        if not ctx.save_gates:  # one parallel product instead of four stores per step
            gates = torch.addmm(gates.flatten(0, 1), h_prev.flatten(0, 1), w.T).view(T, B, 4 * H)
        dxg = torch.empty((T, B, 4 * H), dtype=w.dtype, device=w.device)
        dh0, dc0 = torch.empty((2, B, H), dtype=torch.float32, device=w.device)
        HP, BN = tile(H)
        lstm_backward_kernel[(triton.cdiv(B, BN),)](
            gates, w, cs, dy if keep is None else keep, dy.contiguous(), dhn.contiguous(), dcn.contiguous(), dxg, dh0,
            dc0, T, B, H=H, HP=HP, BN=BN, FAST=ctx.fast, PRE=not ctx.save_gates, RESET=keep is not None,
            UPCAST=INTERPRET, num_warps=ctx.warps, num_stages=1,
        )  # fmt: skip
        dw = dxg.flatten(0, 1).T @ h_prev.flatten(0, 1)
        return dxg, dw, dh0.to(w.dtype), dc0, None, None, None


def tile_lstm(x, weights, h0, c0, save_gates: bool, warps: int):
    """A whole layer, input product included: x [T, B, D], weights (W_ih [4H, D], W_hh [4H, H], b_ih, b_hh) -> y, h_n, c_n."""
    w_ih, w_hh, b_ih, b_hh = weights
    xg = torch.nn.functional.linear(x, w_ih, b_ih + b_hh)
    return TileLstm.apply(xg, w_hh, h0, c0, None, save_gates, warps)
