"""One LSTM layer whose recurrence is a single launch forward and a single launch backward.

The input product ``x W_ih^T + b_ih + b_hh`` over all steps is made before, the products for dW_hh, dW_ih and dx after the
launch, each as one large product with fp32 sums (a product per step would be small, and its sum over steps rounded T times).
What runs in between is one of

    tile     H <= 128 (fp32: 64)   :mod:`algoprog.kernels.fused.lstm_tile`, weights on chip
    group    H <= 1024             :mod:`algoprog.kernels.fused.lstm_group`, weights streamed from L2
    cluster  H <= 768, Hopper      :mod:`algoprog.kernels.lstm_cluster`, CUDA C++, where that is built; not in fp32

behind one operator, so that gradients, tracing and counting do not depend on the choice. Tensors as in ``lstm_tile``; model
FLOPs 8 T B H^2 forward and 16 T B H^2 backward (dh and dW_hh); that the backward pass multiplies once more to get the
pre-activations again is work of the hardware and not counted.

None of the three waits for another block that might not be resident; see their docstrings. Steps after a sequence's length
are computed from zeros and hidden: what comes later changes nothing before, and their gradients are exact zeros.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from algoprog.kernels import lstm_cluster
from algoprog.kernels.formulas import register_formula
from algoprog.kernels.fused import lstm_group, lstm_tile
from algoprog.kernels.fused.launch import require, require_input, require_shape

OP = "lstm"
KERNELS = ("tile", "group", "cluster")


def kernel_for(hidden: int, dtype: torch.dtype) -> str:
    """ "tile" where the weights fit one multiprocessor, else "group". By arithmetic, not by measurement."""
    return "tile" if hidden <= lstm_tile.WIDEST[dtype] else "group"


def why_not(kernel: str, hidden: int, dtype: torch.dtype) -> str | None:
    """What keeps a kernel from serving this width and storage type; None if nothing does."""
    if kernel == "cluster":
        return lstm_cluster.available(hidden, dtype)
    widest = lstm_tile.WIDEST[dtype] if kernel == "tile" else lstm_group.WIDEST
    return None if hidden <= widest else f"it serves {dtype} up to width {widest}"


def _implementation(kernel: str) -> ModuleType:
    """A module with ``forward`` and ``backward`` as :mod:`algoprog.kernels.fused.lstm_tile` has them."""
    return {"tile": lstm_tile, "group": lstm_group, "cluster": lstm_cluster}[kernel]


def _previous(hidden: Tensor, h0: Tensor, keep: Tensor | None) -> Tensor:
    """h_{t-1} as step t saw it, [T, B, H]."""
    before = torch.cat((h0[None], hidden[:-1]))
    return before if keep is None else torch.where(keep[..., None] != 0, before, 0.0)


@torch.library.custom_op("algoprog::lstm", mutates_args=())
def _recurrence(
    gates: Tensor,
    weight: Tensor,
    h0: Tensor,
    c0: Tensor,
    keep: Tensor | None,
    last: Tensor | None,
    bptt: int,
    kernel: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(hidden [T, B, H], h_n [B, H], c_n [B, H] fp32, cell [T, B, H] fp32, what the kernel saved for its backward pass)."""
    gates, weight, h0, c0 = gates.contiguous(), weight.contiguous(), h0.contiguous(), c0.contiguous()
    keep = None if keep is None else keep.contiguous()
    found = _implementation(kernel).forward(gates, weight, h0, c0, keep)
    hidden, cell = found[:2]
    saved = found[2] if len(found) > 2 else gates.new_empty(0)
    if last is None:
        return hidden, hidden[-1].clone(), cell[-1].clone(), cell, saved
    rows = torch.arange(hidden.shape[1], device=hidden.device)
    return hidden, hidden[last, rows], cell[last, rows], cell, saved


@torch.library.custom_op("algoprog::lstm_backward", mutates_args=())
def _recurrence_backward(
    dhidden: Tensor, dh_n: Tensor, dc_n: Tensor, gates: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, keep: Tensor | None,
    last: Tensor | None, hidden: Tensor, cell: Tensor, saved: Tensor, bptt: int, kernel: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(dgates, dweight, dh0, dc0), each in the type of its tensor."""
    keep = None if keep is None else keep.contiguous()
    weight = weight.contiguous()
    before = _previous(hidden, h0, keep).flatten(0, 1)
    if not saved.numel():
        saved = torch.addmm(gates.flatten(0, 1), before, weight.T).view(gates.shape)
    dgates, dh0, dc0 = _implementation(kernel).backward(
        dhidden.contiguous(),
        dh_n.contiguous(),
        dc_n.contiguous(),
        saved,
        weight,
        c0.contiguous(),
        cell,
        keep,
        last,
        bptt,
    )
    return dgates, dgates.flatten(0, 1).T @ before, dh0.to(h0.dtype), dc0.to(c0.dtype)


@_recurrence.register_fake
def _(
    gates: Tensor,
    weight: Tensor,
    h0: Tensor,
    c0: Tensor,
    keep: Tensor | None,
    last: Tensor | None,
    bptt: int,
    kernel: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    hidden = gates.new_empty((*gates.shape[:2], weight.shape[1]))
    cell = torch.empty_like(hidden, dtype=torch.float32)
    saved = gates.new_empty(gates.shape if kernel == "cluster" else 0)
    return hidden, hidden.new_empty(h0.shape), cell.new_empty(h0.shape), cell, saved


@_recurrence_backward.register_fake
def _(
    dhidden: Tensor, dh_n: Tensor, dc_n: Tensor, gates: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, keep: Tensor | None,
    last: Tensor | None, hidden: Tensor, cell: Tensor, saved: Tensor, bptt: int, kernel: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    return (
        gates.new_empty(gates.shape),
        weight.new_empty(weight.shape),
        h0.new_empty(h0.shape),
        c0.new_empty(c0.shape),
    )


def _save(ctx, inputs, output) -> None:
    gates, weight, h0, c0, keep, last, ctx.bptt, ctx.kernel = inputs
    hidden, _, _, cell, saved = output
    ctx.save_for_backward(gates, weight, h0, c0, keep, last, hidden, cell, saved)
    ctx.mark_non_differentiable(cell, saved)


def _differentiate(ctx, dhidden, dh_n, dc_n, *_):
    found = torch.ops.algoprog.lstm_backward(dhidden, dh_n, dc_n, *ctx.saved_tensors, ctx.bptt, ctx.kernel)
    return *found, None, None, None, None


_recurrence.register_autograd(_differentiate, setup_context=_save)


def _forward_flops(gates: Any, weight: Any, *_: Any, **__: Any) -> int:
    return 2 * int(gates[0]) * int(gates[1]) * int(weight[0]) * int(weight[1])


def _backward_flops(dhidden: Any, dh_n: Any, dc_n: Any, gates: Any, weight: Any, *_: Any, **__: Any) -> int:
    return 2 * _forward_flops(gates, weight)


register_formula("lstm", _forward_flops)
register_formula("lstm_backward", _backward_flops)


def lstm(
    x: Tensor,
    state: tuple[Tensor, Tensor],
    weights: tuple[Tensor, Tensor],
    biases: tuple[Tensor, Tensor] | None,
    *,
    keep: Tensor | None = None,
    lengths: Tensor | None = None,
    bptt: int | None = None,
    kernel: str = "auto",
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """As :func:`algoprog.kernels.reference.lstm`, with the cell state in fp32 throughout and in the state returned.

    ``kernel``: "auto" (:func:`kernel_for`), "tile", "group" or "cluster". H up to 1,024. Raises ValueError on a bad argument.
    """
    _check(x, state, weights, biases, keep, lengths, bptt)
    hidden = weights[1].shape[1]
    chosen = kernel_for(hidden, x.dtype) if kernel == "auto" else kernel
    require(chosen in KERNELS, OP, "kernel", f"auto, {', '.join(KERNELS)}", repr(kernel))
    obstacle = why_not(chosen, hidden, x.dtype)
    require(obstacle is None, OP, "kernel", f"one that can serve width {hidden}", f"{chosen}: {obstacle}")
    steps = x.shape[1]
    inputs, last, valid = x.transpose(0, 1), None, None
    if lengths is not None:
        last = lengths.to(x.device, torch.int64) - 1
        valid = torch.arange(steps, device=x.device)[:, None, None] <= last[:, None]  # [T, B, 1]
        inputs = torch.where(valid, inputs, 0.0)
    bias = None if biases is None else (biases[0] + biases[1]).to(x.dtype)
    gates = F.linear(inputs, weights[0].to(x.dtype), bias)
    y, h_n, c_n, _, _ = torch.ops.algoprog.lstm(
        gates, weights[1].to(x.dtype), state[0][0].to(x.dtype), state[1][0].float(),
        None if keep is None else keep.T.to(torch.uint8), last, steps if bptt is None else min(bptt, steps), chosen,
    )  # fmt: skip
    if valid is not None:
        y = torch.where(valid, y, 0.0)
    return y.transpose(0, 1), (h_n[None], c_n[None])


def _check(
    x: Tensor,
    state: tuple[Tensor, Tensor],
    weights: tuple[Tensor, Tensor],
    biases: tuple[Tensor, Tensor] | None,
    keep: Tensor | None,
    lengths: Tensor | None,
    bptt: int | None,
) -> None:
    require_input(OP, "x", x)
    require(x.ndim == 3 and x.numel() > 0, OP, "x", "shape [B, T, I] with at least one of each", tuple(x.shape))
    (B, T, inputs), hidden = x.shape, weights[1].shape[-1]
    require(1 <= hidden <= lstm_group.WIDEST, OP, "weights", f"1 to {lstm_group.WIDEST} hidden units", hidden)
    for name, weight, shape in (
        ("input weight", weights[0], (4 * hidden, inputs)),
        ("recurrent weight", weights[1], (4 * hidden, hidden)),
        *((("bias", bias, (4 * hidden,)) for bias in biases) if biases is not None else ()),
        ("h", state[0], (1, B, hidden)),
        ("c", state[1], (1, B, hidden)),
    ):
        require_input(OP, name, weight, like=x)
        require_shape(OP, name, weight, shape)
    if keep is not None:
        require(keep.device == x.device, OP, "keep", f"a tensor on {x.device}", keep.device)
        require(keep.dtype in (torch.bool, torch.uint8), OP, "keep", "a bool or uint8 tensor", keep.dtype)
        require_shape(OP, "keep", keep, (B, T))
    if lengths is not None:
        require(not lengths.dtype.is_floating_point, OP, "lengths", "an integer tensor", lengths.dtype)
        require_shape(OP, "lengths", lengths, (B,))
    require(bptt is None or bptt >= 1, OP, "bptt", "a number of steps, at least 1", bptt)
