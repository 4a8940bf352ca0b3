"""The vocabulary head in one pass: loss and gradients are formed together, a chunk of rows at a time that stays in cache.

With z = x W' + b, e = exp(z - max z) and s = sum e, a row's loss is log s + max z - z[target], and its gradient along z is
(e - s onehot) / s. The division moves to the narrow side of the products, so a chunk of logits is written twice and read
five times, and never reaches memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from algoprog.kernels import reference

CHUNK_LOGITS = 2**18
"""Logits of a chunk: 1 MiB in fp32. Of 32 to 1,024 rows at a vocabulary of 1,024, 128 and 256 took the least time."""

LEAST_ROWS = 32
"""Products of fewer rows would cost more than a chunk outside of the cache."""


class _SummedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, ignored: int) -> Tensor:
        loss, *gradients = _one_pass(x, weight, bias, target, ignored, True)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        along_x, along_weight, along_bias = ctx.saved_tensors
        return along_x * grad, along_weight * grad, None if along_bias is None else along_bias * grad, None, None


def _one_pass(
    x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, ignored: int, with_gradients: bool
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Loss, a scalar, and its gradients along x [N, D], weight [V, D] and bias [V], or None for each."""
    (N, D), V = x.shape, len(weight)
    rows = max(LEAST_ROWS, CHUNK_LOGITS // V)
    wide = weight.to(x.dtype)
    losses = x.new_empty(N)
    along_x = torch.empty_like(x) if with_gradients else None
    # The bias is one more row of the transposed weight, against a column of ones: its sum over rows costs no pass.
    table, inputs = wide.t().contiguous(), x
    if bias is not None:
        table, inputs = torch.cat((table, bias.to(x.dtype)[None])), torch.cat((x, x.new_ones(N, 1)), dim=1)
    along_table = torch.zeros_like(table) if with_gradients else None
    buffer = x.new_empty(min(rows, N), V)
    counted = target != ignored
    places = torch.where(counted, target, 0)[:, None]
    for start in range(0, N, rows):
        part = slice(start, start + rows)
        logits = torch.mm(inputs[part], table, out=buffer[: min(rows, N - start)])
        largest = logits.amax(1, keepdim=True)
        chosen = logits.gather(1, places[part])
        powers = logits.sub_(largest).exp_()
        total = powers.sum(1, keepdim=True)
        losses[part] = torch.where(counted[part], (total.log() + largest - chosen)[:, 0], 0.0)
        if along_x is not None and along_table is not None:
            scale = torch.where(counted[part, None], total.reciprocal(), 0.0)
            powers.scatter_add_(1, places[part], -total)
            torch.mm(powers, wide, out=along_x[part]).mul_(scale)
            along_table.addmm_((inputs[part] * scale).t(), powers)
    if along_table is None:
        return losses.sum(), None, None, None
    along_bias = None if bias is None else along_table[D].to(bias.dtype)
    return losses.sum(), along_x, along_table[:D].t().to(weight.dtype).contiguous(), along_bias


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    *,
    ignore_index: int = -100,
    reduction: str = "sum",
) -> Tensor:
    """See :func:`algoprog.kernels.reference.linear_cross_entropy`, which runs for a ``reduction`` other than "sum"."""
    if reduction != "sum":
        return reference.linear_cross_entropy(
            hidden, weight, bias, target, ignore_index=ignore_index, reduction=reduction
        )
    if torch.is_grad_enabled() and any(p is not None and p.requires_grad for p in (hidden, weight, bias)):
        loss: Tensor = _SummedLoss.apply(hidden, weight, bias, target, ignore_index)  # type: ignore[no-untyped-call]
        return loss
    return _one_pass(hidden, weight, bias, target, ignore_index, False)[0]
