"""Rotary embedding of queries and keys at once: x cos + swapped(x) sin over whole rows, gradients by the inverse rotation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from algoprog.kernels import reference


def _tables(cos: Tensor, sin: Tensor, heads: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin, each [T, K/2], for all channels of ``heads`` heads [T, heads K]; the first half of a head turns by -sin."""
    return torch.cat((cos, cos), dim=-1).repeat(1, heads).to(dtype), torch.cat((-sin, sin), -1).repeat(1, heads).to(
        dtype
    )


def _swapped(x: Tensor, width: int) -> Tensor:
    """The halves of every head of ``width`` K exchanged. x: [B, T, n K]."""
    return x.view(*x.shape[:-1], -1, width).roll(width // 2, -1).flatten(-2)


class _Rope(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, kv_heads: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        K = qkv.shape[-1] // (heads + 2 * kv_heads)
        turned = (heads + kv_heads) * K
        cosines, sines = _tables(cos, sin, heads + kv_heads, qkv.dtype)
        ctx.save_for_backward(cosines, sines)
        x = qkv[..., :turned]
        rotated = (x * cosines).addcmul_(_swapped(x, K), sines).view(*qkv.shape[:-1], -1, K)
        v = qkv[..., turned:].clone().view(*qkv.shape[:-1], kv_heads, K)
        q, k = torch.split(rotated, [heads, kv_heads], dim=-2)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cosines, sines = ctx.saved_tensors
        K, turned = grads[0].shape[-1], cosines.shape[-1]
        packed = torch.cat([grad.transpose(1, 2).flatten(2) for grad in grads], dim=-1)
        x = packed[..., :turned]
        swapped = _swapped(x, K)
        x.mul_(cosines).addcmul_(swapped, sines, value=-1)
        return packed, None, None, None, None


def rope(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    heads: int,
    kv_heads: int | None = None,
    *,
    positions: Tensor | None = None,
    inplace: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`algoprog.kernels.reference.rope`, which runs where positions are given or a part of a head is turned."""
    kv_heads = heads if kv_heads is None else kv_heads
    width = qkv.shape[-1] // (heads + 2 * kv_heads)
    if positions is not None or 2 * cos.shape[-1] != width:
        return reference.rope(qkv, cos, sin, heads, kv_heads, positions=positions, inplace=inplace)
    T = qkv.shape[1]
    found: tuple[Tensor, Tensor, Tensor] = _Rope.apply(qkv, cos[:T], sin[:T], heads, kv_heads)  # type: ignore[no-untyped-call]
    return found
