"""The recurrence of an LSTM in one launch: a program owns a few sequences, all of W_hh on chip, and runs every step.

For H up to 128 (fp32: 64), where W_hh fits the registers and shared memory of one multiprocessor. Programs never wait for
each other: there is no barrier between them, so any number of launches may share a GPU, captured or not, without deadlock.

Tensors, time major, contiguous, gate order i, f, g, o as in torch.nn.LSTM; "kind" is fp32, bf16 or fp16:
    gates  [T, B, 4H] kind   x W_ih^T + b_ih + b_hh, one product made before
    weight [4H, H]    kind   W_hh
    h0 [B, H] kind, c0 [B, H] fp32   state before the first step
    keep   [T, B]     uint8  0 clears h and c of a sequence before step t; or None
    hidden [T, B, H]  kind, cell [T, B, H] fp32   results
    last   [B]        int64  the step at which the gradient of a sequence's final state enters; None: T - 1
Per step 8 B H^2 FLOPs forward and as many backward. Bytes per (sequence, unit) and step with 2-byte storage: forward reads 8
and writes 6; backward reads 14 and writes 8. The backward pass reads pre-activations, which one large product computes again
from the hidden states: that takes four stores per step off the chain of dependent steps. c stays fp32 in registers, h is
rounded to its kind once per step. No atomics: results repeat bit for bit.

State is held transposed, [units, sequences]: sequences are the N side of the tensor cores' product, so 8 of them waste nothing.
Checked without a GPU: accuracy in the interpreter, budgets of the compiler's output for sm_80 and sm_90.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from algoprog.kernels.fused import launch
from algoprog.kernels.fused.launch import ceil_div, next_power_of_2, on_device_of
from algoprog.kernels.fused.lstm_cell import dot, gate_gradients, load_gates, sigmoid, store_gates, tanh

SEQUENCES = 8
"""Sequences of a program, the narrowest product there is: up to 1,056 sequences each have a multiprocessor of an H100."""

WIDEST = {torch.float32: 64, torch.bfloat16: 128, torch.float16: 128}
"""Largest H by storage type: beyond it the weights do not fit one multiprocessor."""


@triton.jit(do_not_specialize=["T", "B"])
def tile_forward(
    gates_ptr, weight_ptr, h0_ptr, c0_ptr, keep_ptr, hidden_ptr, cell_ptr, T, B,
    H: tl.constexpr, HP: tl.constexpr, BN: tl.constexpr, FAST: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """All steps of BN sequences. One binary serves every T and B."""
    kind = weight_ptr.dtype.element_ty
    sequence = tl.program_id(0) * BN + tl.arange(0, BN)
    unit = tl.arange(0, HP)
    real = (sequence < B)[None, :]
    inside = real & (unit < H)[:, None]  # folds away where HP == H
    square = (unit < H)[:, None] & (unit < H)[None, :]  # padded units see weight 0 and gate 0: they stay at c = h = 0
    w_i, w_f, w_g, w_o = load_gates(weight_ptr + unit[:, None] * H + unit[None, :], square, H * H)
    place = sequence[None, :].to(tl.int64) * H + unit[:, None]
    step = tl.cast(B, tl.int64) * H
    h = tl.load(h0_ptr + place, mask=inside, other=0.0)
    c = tl.load(c0_ptr + place, mask=inside, other=0.0)
    gates = gates_ptr + sequence[None, :].to(tl.int64) * (4 * H) + unit[:, None]
    hidden, cell = hidden_ptr + place, cell_ptr + place
    z_i, z_f, z_g, z_o = load_gates(gates, inside, H)
    if keep_ptr is not None:
        keep = keep_ptr + sequence[None, :]
        kept = tl.load(keep, mask=real, other=0)
    for t in range(T):
        more = t + 1 < T  # what the next step reads is asked for one step ahead
        gates += 4 * step
        n_i, n_f, n_g, n_o = load_gates(gates, inside & more, H)
        if keep_ptr is not None:
            h = tl.where(kept != 0, h, 0.0).to(kind)
            c = tl.where(kept != 0, c, 0.0)
            keep += B
            kept = tl.load(keep, mask=real & more, other=0)
        i = sigmoid(dot(w_i, h, z_i.to(tl.float32), UPCAST), FAST)
        f = sigmoid(dot(w_f, h, z_f.to(tl.float32), UPCAST), FAST)
        g = tanh(dot(w_g, h, z_g.to(tl.float32), UPCAST), FAST)
        o = sigmoid(dot(w_o, h, z_o.to(tl.float32), UPCAST), FAST)
        c = f * c + i * g
        h = (o * tanh(c, FAST)).to(kind)
        tl.store(hidden, h, mask=inside)
        tl.store(cell, c, mask=inside)
        hidden += step
        cell += step
        z_i, z_f, z_g, z_o = n_i, n_f, n_g, n_o


@triton.jit(do_not_specialize=["T", "B", "bptt", "phase"])
def tile_backward(
    pre_ptr, weight_ptr, cell_ptr, c0_ptr, keep_ptr, last_ptr, dhidden_ptr, dh_n_ptr, dc_n_ptr, dgates_ptr, dh0_ptr, dc0_ptr,
    T, B, bptt, phase,
    H: tl.constexpr, HP: tl.constexpr, BN: tl.constexpr, FAST: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """All steps in reverse: ``dgates`` of every step, then ``W_hh^T dgates`` for the step before.

    phase = (T - 1) mod bptt counts down; where it is 0 the gradient of the state goes no further (but to h0 and c0).
    """
    kind = weight_ptr.dtype.element_ty
    sequence = tl.program_id(0) * BN + tl.arange(0, BN)
    unit = tl.arange(0, HP)
    real = (sequence < B)[None, :]
    inside = real & (unit < H)[:, None]
    square = (unit < H)[:, None] & (unit < H)[None, :]
    w_i, w_f, w_g, w_o = load_gates(weight_ptr + unit[None, :] * H + unit[:, None], square, H * H)  # transposed
    place = sequence[None, :].to(tl.int64) * H + unit[:, None]
    wide = sequence[None, :].to(tl.int64) * (4 * H) + unit[:, None]
    step = tl.cast(B, tl.int64) * H
    end = step * tl.cast(T - 1, tl.int64)
    pre, dgates = pre_ptr + 4 * end + wide, dgates_ptr + 4 * end + wide
    dhidden, cell = dhidden_ptr + end + place, cell_ptr + end + place
    dh = tl.load(dh_n_ptr + place, mask=inside, other=0.0).to(tl.float32)
    dc = tl.load(dc_n_ptr + place, mask=inside, other=0.0)
    if last_ptr is not None:
        last = tl.load(last_ptr + sequence[None, :], mask=real, other=-1)
        dh_n, dc_n = dh, dc
        dh, dc = tl.zeros([HP, BN], tl.float32), tl.zeros([HP, BN], tl.float32)
    z_i, z_f, z_g, z_o = load_gates(pre, inside, H)
    dy = tl.load(dhidden, mask=inside, other=0.0)
    c = tl.load(cell, mask=inside, other=0.0)
    start = tl.load(c0_ptr + place, mask=inside, other=0.0)
    cell -= step
    before = tl.load(cell, mask=inside & (T > 1), other=0.0)  # the next turn's c, so every c is loaded once
    if keep_ptr is not None:
        keep = keep_ptr + tl.cast(T - 1, tl.int64) * B + sequence[None, :]
        kept = tl.load(keep, mask=real, other=0)
    for s in range(T):
        more = s + 1 < T  # what the step before reads is asked for one step ahead
        pre -= 4 * step
        dhidden -= step
        cell -= step
        n_i, n_f, n_g, n_o = load_gates(pre, inside & more, H)
        n_dy = tl.load(dhidden, mask=inside & more, other=0.0)
        n_before = tl.load(cell, mask=inside & (s + 2 < T), other=0.0)
        before = tl.where(more, before, start)
        seen = before
        if keep_ptr is not None:
            seen = tl.where(kept != 0, before, 0.0)
        dh += dy.to(tl.float32)
        if last_ptr is not None:
            ends = last == T - 1 - s
            dh += tl.where(ends, dh_n, 0.0)
            dc += tl.where(ends, dc_n, 0.0)
        d_i, d_f, d_g, d_o, dc = gate_gradients(dh, dc, z_i, z_f, z_g, z_o, c, seen, FAST)
        d_i, d_f, d_g, d_o = d_i.to(kind), d_f.to(kind), d_g.to(kind), d_o.to(kind)
        store_gates(dgates, d_i, d_f, d_g, d_o, inside, H)
        dgates -= 4 * step
        zero = tl.zeros([HP, BN], tl.float32)  # two accumulators halve the chain of dependent products
        dh = dot(w_f, d_f, dot(w_i, d_i, zero, UPCAST), UPCAST) + dot(w_o, d_o, dot(w_g, d_g, zero, UPCAST), UPCAST)
        cut = (phase == 0) & more
        dh = tl.where(cut, 0.0, dh)
        dc = tl.where(cut, 0.0, dc)
        phase = tl.where(phase == 0, bptt - 1, phase - 1)
        if keep_ptr is not None:
            dh = tl.where(kept != 0, dh, 0.0)
            dc = tl.where(kept != 0, dc, 0.0)
            keep -= B
            kept = tl.load(keep, mask=real & more, other=0)
        c, before, dy = before, n_before, n_dy
        z_i, z_f, z_g, z_o = n_i, n_f, n_g, n_o
    tl.store(dh0_ptr + place, dh, mask=inside)
    tl.store(dc0_ptr + place, dc, mask=inside)


def _shape(H: int) -> tuple[int, int]:
    """(padded H, warps). A warp works on 16 units, more warps than H / 16 repeat work; 4 keep all schedulers busy."""
    padded = max(16, next_power_of_2(H))
    return padded, 4 if padded <= 64 else 8


def _fast(x: Tensor) -> bool:
    return x.dtype == torch.bfloat16 and not launch.INTERPRETED


def forward(gates: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """(hidden, cell) of every step."""
    (T, B, _), H = gates.shape, weight.shape[1]
    hidden = torch.empty((T, B, H), dtype=gates.dtype, device=gates.device)
    cell = torch.empty((T, B, H), dtype=torch.float32, device=gates.device)
    padded, warps = _shape(H)
    with on_device_of(gates):
        tile_forward[(ceil_div(B, SEQUENCES),)](
            gates, weight, h0, c0, keep, hidden, cell, T, B, H=H, HP=padded, BN=SEQUENCES, FAST=_fast(gates),
            UPCAST=launch.INTERPRETED, num_warps=warps, num_stages=1,
        )  # fmt: skip
    return hidden, cell


def backward(
    dhidden: Tensor, dh_n: Tensor, dc_n: Tensor, pre: Tensor, weight: Tensor, c0: Tensor, cell: Tensor, keep: Tensor | None,
    last: Tensor | None, bptt: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(dgates [T, B, 4H] in the storage type, dh0 and dc0 [B, H] fp32) from pre-activations ``pre`` [T, B, 4H].

    bptt: the gradient of the state stops before every step that is a multiple of it, 0 excepted.
    """
    (T, B, H), device = dhidden.shape, dhidden.device
    dgates = torch.empty_like(pre)
    dh0, dc0 = (torch.empty((B, H), dtype=torch.float32, device=device) for _ in range(2))
    padded, warps = _shape(H)
    with on_device_of(pre):
        tile_backward[(ceil_div(B, SEQUENCES),)](
            pre, weight, cell, c0, keep, last, dhidden, dh_n, dc_n, dgates, dh0, dc0, T, B, bptt, (T - 1) % bptt,
            H=H, HP=padded, BN=SEQUENCES, FAST=_fast(pre), UPCAST=launch.INTERPRETED, num_warps=warps, num_stages=1,
        )  # fmt: skip
    return dgates, dh0, dc0
