"""RMSNorm with its gradient by hand; PyTorch composes both from elementary operations on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _AddRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        s = x if residual is None else x + residual
        mean_square = torch.linalg.vector_norm(s, dim=-1, keepdim=True).square_().div_(s.shape[-1])
        scale = mean_square.add_(eps).rsqrt_()
        normed = s * scale
        ctx.save_for_backward(normed, scale, weight)
        ctx.branches = residual is not None
        return normed * weight.to(x.dtype), s

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_s: Tensor) -> tuple[Tensor | None, ...]:
        """With y = w n and n = a s: ds = a (w g - n mean(w g n)), dw = sum over rows of g n."""
        normed, scale, weight = ctx.saved_tensors
        D, wide = normed.shape[-1], weight.to(normed.dtype)
        product = (grad * normed).reshape(-1, D)
        mean = (product @ (wide / D)).view(scale.shape)
        along_s = (grad * wide).addcmul_(normed, mean, value=-1).mul_(scale).add_(grad_s)
        return along_s, along_s if ctx.branches else None, product.sum(0).to(weight.dtype), None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """See :func:`algoprog.kernels.reference.rms_norm`."""
    normed: Tensor = _AddRmsNorm.apply(x, None, weight, eps)[0]  # type: ignore[no-untyped-call]
    return normed


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """See :func:`algoprog.kernels.reference.add_rms_norm`."""
    found: tuple[Tensor, Tensor] = _AddRmsNorm.apply(x, residual, weight, eps)  # type: ignore[no-untyped-call]
    return found
