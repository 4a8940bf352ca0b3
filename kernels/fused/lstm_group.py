"""The recurrence of a wide LSTM in one launch: a program owns a group of sequences and streams W_hh from L2 at every step.

For H up to 1,024 (any H works), where W_hh does not fit one multiprocessor. **Programs never wait for each other**: a step
needs the hidden state of the program's own sequences only, which it wrote itself, and the one barrier per step is that of a
single block. So there is no spin barrier, no cooperative launch, and nothing that could deadlock: any number of launches may
share a GPU, captured or not, and blocks need not be resident together. Splitting W_hh over blocks that exchange h through L2
would be faster where they are resident, and hang where they are not.

The price is bandwidth: every program reads 8 H^2 bytes of W_hh (2-byte storage) per step, from L2. At 64 B per clock and
multiprocessor and 1.7 GHz that is at least 4.8, 19 and 77 us per step at H = 256, 512 and 1024, whatever the batch
(predictions, not measured).

Tensors as in :mod:`algoprog.kernels.fused.lstm_tile`. The backward pass computes dh of a step from the gate gradients of the
step after, also by tiles: ``dh = W_hh^T dgates`` is 4H long per sequence, and dc0 serves as the running gradient of c. Every
h, c and gate gradient passes through memory, where other threads of the same block find it after the barrier. No atomics:
results repeat bit for bit.

Checked without a GPU: accuracy in the interpreter, budgets of the compiler's output for sm_80 and sm_90.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from algoprog.kernels.fused import launch
from algoprog.kernels.fused.launch import ceil_div, on_device_of
from algoprog.kernels.fused.lstm_cell import dot, gate_gradients, load, load_gates, sigmoid, store_gates, tanh

WIDEST = 1024
SEQUENCES = 16
"""Sequences of a program. All programs stream the same weights, so fewer, wider ones would only leave SMs idle."""

FORWARD = {torch.float32: (64, 32, 4, 3), torch.bfloat16: (64, 64, 4, 3), torch.float16: (64, 64, 4, 3)}
BACKWARD = {torch.float32: (64, 32, 8, 3), torch.bfloat16: (64, 128, 8, 3), torch.float16: (64, 128, 8, 3)}
"""Storage type -> (units, rows of a product, warps, stages): the largest tiles of a sweep that do not spill, with 48 KiB and
more of weights in flight, which covers the way from L2 (64 B per clock and some 600 clocks). Not timed yet."""


@triton.jit(do_not_specialize=["T", "B"])
def group_forward(
    gates_ptr, weight_ptr, h0_ptr, c0_ptr, keep_ptr, hidden_ptr, cell_ptr, T, B,
    H: tl.constexpr, BU: tl.constexpr, BK: tl.constexpr, BN: tl.constexpr, FAST: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Per step: tiles of BU units, the four gates of each by products over tiles of BK units of the previous h."""
    kind = weight_ptr.dtype.element_ty
    sequence = (tl.program_id(0) * BN + tl.arange(0, BN)).to(tl.int64)
    real = (sequence < B)[None, :]
    step = tl.cast(B, tl.int64) * H
    h_before, c_before = h0_ptr, c0_ptr
    for t in range(T):
        kept = real
        if keep_ptr is not None:
            kept = real & (tl.load(keep_ptr + tl.cast(t, tl.int64) * B + sequence[None, :], mask=real, other=0) != 0)
        for first in range(0, H, BU):
            unit = first + tl.arange(0, BU)
            inside = real & (unit < H)[:, None]
            place = sequence[None, :] * H + unit[:, None]
            wide = tl.cast(t, tl.int64) * 4 * step + sequence[None, :] * (4 * H) + unit[:, None]
            z_i, z_f, z_g, z_o = load_gates(gates_ptr + wide, inside, H)
            z_i, z_f, z_g, z_o = z_i.to(tl.float32), z_f.to(tl.float32), z_g.to(tl.float32), z_o.to(tl.float32)
            for k in range(0, H, BK):
                source = k + tl.arange(0, BK)
                h = tl.load(
                    h_before + sequence[None, :] * H + source[:, None], mask=kept & (source < H)[:, None], other=0.0
                )
                square = (unit < H)[:, None] & (source < H)[None, :]
                weight = weight_ptr + unit[:, None] * H + source[None, :]
                z_i = dot(load(weight, square, H % BU + H % BK == 0), h, z_i, UPCAST)
                z_f = dot(load(weight + H * H, square, H % BU + H % BK == 0), h, z_f, UPCAST)
                z_g = dot(load(weight + 2 * H * H, square, H % BU + H % BK == 0), h, z_g, UPCAST)
                z_o = dot(load(weight + 3 * H * H, square, H % BU + H % BK == 0), h, z_o, UPCAST)
            c = tl.load(c_before + place, mask=inside & kept, other=0.0)
            c = sigmoid(z_f, FAST) * c + sigmoid(z_i, FAST) * tanh(z_g, FAST)
            h_new = (sigmoid(z_o, FAST) * tanh(c, FAST)).to(kind)
            at = tl.cast(t, tl.int64) * step + place
            tl.store(cell_ptr + at, c, mask=inside)
            tl.store(hidden_ptr + at, h_new, mask=inside)
        tl.debug_barrier()  # the next step reads what other threads of this block have just written
        h_before = hidden_ptr + tl.cast(t, tl.int64) * step
        c_before = cell_ptr + tl.cast(t, tl.int64) * step


@triton.jit
def _through_weights(
    dgates, weight_ptr, sequence, real, unit, rows, H: tl.constexpr, BU: tl.constexpr, BK: tl.constexpr, BN: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """[BU, BN]: ``W_hh^T dgates`` for these units, ``dgates`` [B, 4H] of one step; rows is 4H, or 0 for nothing."""
    acc = tl.zeros([BU, BN], tl.float32)
    for k in range(0, rows, BK):
        row = k + tl.arange(0, BK)
        dz = tl.load(dgates + sequence[None, :] * (4 * H) + row[:, None], mask=real & (row < 4 * H)[:, None], other=0.0)
        square = (unit < H)[:, None] & (row < 4 * H)[None, :]
        weight = load(weight_ptr + row[None, :] * H + unit[:, None], square, H % BU + (4 * H) % BK == 0)
        acc = dot(weight, dz, acc, UPCAST)
    return acc


@triton.jit(do_not_specialize=["T", "B", "bptt"])
def group_backward(
    pre_ptr, weight_ptr, cell_ptr, c0_ptr, keep_ptr, last_ptr, dhidden_ptr, dh_n_ptr, dc_n_ptr, dgates_ptr, dh0_ptr, dc0_ptr,
    T, B, bptt,
    H: tl.constexpr, BU: tl.constexpr, BK: tl.constexpr, BN: tl.constexpr, FAST: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Steps in reverse, tiles of BU units; the last turn, t = -1, leaves the gradient of h0."""
    sequence = (tl.program_id(0) * BN + tl.arange(0, BN)).to(tl.int64)
    real = (sequence < B)[None, :]
    step = tl.cast(B, tl.int64) * H
    last = tl.full([1, BN], 0, tl.int64) + (T - 1)
    if last_ptr is not None:
        last = tl.load(last_ptr + sequence[None, :], mask=real, other=-1)
    for s in range(T):
        t = tl.cast(T - 1 - s, tl.int64)
        later = dgates_ptr + (t + 1) * 4 * step  # read where s > 0 only
        rows = tl.where(s > 0, 4 * H, 0)
        flows = real & ((t + 1) % bptt != 0)
        kept = real
        if keep_ptr is not None:
            kept = real & (tl.load(keep_ptr + t * B + sequence[None, :], mask=real, other=0) != 0)
            flows &= tl.load(keep_ptr + (t + 1) * B + sequence[None, :], mask=real & (s > 0), other=0) != 0
        for first in range(0, H, BU):
            unit = first + tl.arange(0, BU)
            inside = real & (unit < H)[:, None]
            place = sequence[None, :] * H + unit[:, None]
            wide = sequence[None, :] * (4 * H) + unit[:, None]
            dh = _through_weights(later, weight_ptr, sequence, real, unit, rows, H, BU, BK, BN, UPCAST)
            dh = tl.where(flows, dh, 0.0)
            dc = tl.load(dc0_ptr + place, mask=inside & flows & (s > 0), other=0.0)
            ends = inside & (last == t)
            dh += tl.load(dhidden_ptr + t * step + place, mask=inside, other=0.0).to(tl.float32)
            dh += tl.load(dh_n_ptr + place, mask=ends, other=0.0).to(tl.float32)
            dc += tl.load(dc_n_ptr + place, mask=ends, other=0.0)
            z_i, z_f, z_g, z_o = load_gates(pre_ptr + t * 4 * step + wide, inside, H)
            c = tl.load(cell_ptr + t * step + place, mask=inside, other=0.0)
            seen = tl.load(cell_ptr + (t - 1) * step + place, mask=inside & kept & (t > 0), other=0.0)
            seen += tl.load(c0_ptr + place, mask=inside & kept & (t == 0), other=0.0)
            d_i, d_f, d_g, d_o, dc = gate_gradients(dh, dc, z_i, z_f, z_g, z_o, c, seen, FAST)
            store_gates(dgates_ptr + t * 4 * step + wide, d_i, d_f, d_g, d_o, inside, H)
            tl.store(dc0_ptr + place, tl.where(kept, dc, 0.0), mask=inside)
        tl.debug_barrier()  # the next turn reads gate gradients that other threads of this block have just written
    kept = real
    if keep_ptr is not None:
        kept = real & (tl.load(keep_ptr + sequence[None, :], mask=real, other=0) != 0)
    for first in range(0, H, BU):
        unit = first + tl.arange(0, BU)
        dh = _through_weights(dgates_ptr, weight_ptr, sequence, real, unit, 4 * H, H, BU, BK, BN, UPCAST)
        place = sequence[None, :] * H + unit[:, None]
        tl.store(dh0_ptr + place, tl.where(kept, dh, 0.0), mask=real & (unit < H)[:, None])


def _fast(x: Tensor) -> bool:
    return x.dtype == torch.bfloat16 and not launch.INTERPRETED


def forward(gates: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """(hidden, cell) of every step."""
    (T, B, _), H = gates.shape, weight.shape[1]
    hidden = torch.empty((T, B, H), dtype=gates.dtype, device=gates.device)
    cell = torch.empty((T, B, H), dtype=torch.float32, device=gates.device)
    units, products, warps, stages = FORWARD[gates.dtype]
    with on_device_of(gates):
        group_forward[(ceil_div(B, SEQUENCES),)](
            gates, weight, h0, c0, keep, hidden, cell, T, B, H=H, BU=units, BK=products, BN=SEQUENCES, FAST=_fast(gates),
            UPCAST=launch.INTERPRETED, num_warps=warps, num_stages=stages,
        )  # fmt: skip
    return hidden, cell


def backward(
    dhidden: Tensor, dh_n: Tensor, dc_n: Tensor, pre: Tensor, weight: Tensor, c0: Tensor, cell: Tensor, keep: Tensor | None,
    last: Tensor | None, bptt: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """As :func:`algoprog.kernels.fused.lstm_tile.backward`."""
    (T, B, H), device = dhidden.shape, dhidden.device
    dgates = torch.empty_like(pre)
    dh0, dc0 = (torch.empty((B, H), dtype=torch.float32, device=device) for _ in range(2))
    units, products, warps, stages = BACKWARD[pre.dtype]
    with on_device_of(pre):
        group_backward[(ceil_div(B, SEQUENCES),)](
            pre, weight, cell, c0, keep, last, dhidden, dh_n, dc_n, dgates, dh0, dc0, T, B, bptt, H=H, BU=units,
            BK=products, BN=SEQUENCES, FAST=_fast(pre), UPCAST=launch.INTERPRETED, num_warps=warps, num_stages=stages,
        )  # fmt: skip
    return dgates, dh0, dc0
