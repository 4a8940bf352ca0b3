"""The operations as modules: parameters and tables beside the :class:`~algoprog.kernels.dispatch.Operations` they call.

Every module takes the operations of the device it will run on (:func:`algoprog.kernels.select`) and keeps them, so that the
choice is made once. Parameters are fp32 and converted by the operations. Shapes as in :mod:`algoprog.kernels.reference`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from algoprog.kernels.dispatch import REFERENCE, Operations
from algoprog.kernels.reference import split_heads


class RMSNorm(nn.Module):
    """RMSNorm of a residual stream: ``(norm(s), s)`` for ``s = x + branch``. Its state is that of :class:`torch.nn.RMSNorm`."""

    def __init__(self, width: int, eps: float, operations: Operations = REFERENCE) -> None:
        super().__init__()
        self.operations = operations
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor, branch: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x, branch: [..., D]; without a branch s is x itself."""
        if branch is None:
            return self.operations.rms_norm(x, self.weight, self.eps), x
        return self.operations.add_rms_norm(branch, x, self.weight, self.eps)


class LayerNorm(nn.Module):
    """LayerNorm of a residual stream: ``(norm(s), s)`` for ``s = x + branch``. Its state is that of
    :class:`torch.nn.LayerNorm`."""

    def __init__(self, width: int, eps: float, bias: bool = True, operations: Operations = REFERENCE) -> None:
        super().__init__()
        self.operations = operations
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.eps = eps

    def forward(self, x: Tensor, branch: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x, branch: [..., D]; without a branch s is x itself."""
        if branch is None:
            return self.operations.layer_norm(x, self.weight, self.bias, self.eps), x
        return self.operations.add_layer_norm(branch, x, self.weight, self.bias, self.eps)


ACTIVATIONS = {"swiglu": "swiglu", "glu": "gated_linear_unit", "gelu": "gelu", "relu": "relu"}
"""Name of an activation -> operation."""


class Activation(nn.Module):
    """An activation of the feed-forward block: "swiglu" or "glu" of a packed [gate | up] projection, "gelu" or "relu".

    ``inputs``: how many channels it reads for each one it writes.
    """

    def __init__(self, name: str, operations: Operations = REFERENCE) -> None:
        super().__init__()
        self.name, self.inputs = name, 2 if name in ("swiglu", "glu") else 1
        self._function: Callable[[Tensor], Tensor] = getattr(operations, ACTIVATIONS[name])

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., inputs * F] -> [..., F]."""
        return self._function(x)


class Rotary(nn.Module):
    """Rotary position embedding with its tables, which are no part of the state. One module can serve many layers."""

    cos: Tensor
    sin: Tensor

    def __init__(self, width: int, context: int, base: float, operations: Operations = REFERENCE) -> None:
        """``width``: rotated channels of a head; ``context``: positions; ``base``: see :func:`rotary_tables`."""
        super().__init__()
        self.operations = operations
        cos, sin = rotary_tables(context, width, base)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self, qkv: Tensor, heads: int, kv_heads: int | None = None, *, positions: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v of a packed projection. It is overwritten where no gradient is recorded: nothing else may need it then."""
        inplace = not torch.is_grad_enabled()
        return self.operations.rope(qkv, self.cos, self.sin, heads, kv_heads, positions=positions, inplace=inplace)


class Attention(nn.Module):
    """Causal self-attention between its two projections: [B, T, (H + 2G) K] -> [B, T, H K]."""

    def __init__(self, heads: int, kv_heads: int | None = None, operations: Operations = REFERENCE) -> None:
        super().__init__()
        self.operations = operations
        self.heads, self.kv_heads = heads, heads if kv_heads is None else kv_heads

    def forward(self, qkv: Tensor, rotary: Rotary | None = None, *, positions: Tensor | None = None) -> Tensor:
        """``positions`` are those of :class:`Rotary`."""
        if rotary is None:
            q, k, v = split_heads(qkv, self.heads, self.kv_heads)
        else:
            q, k, v = rotary(qkv, self.heads, self.kv_heads, positions=positions)
        return self.operations.causal_attention(q, k, v).transpose(1, 2).flatten(2)


class LinearCrossEntropy(nn.Module):
    """The vocabulary head and its loss. Owns a table (uninitialised) only if it is not tied to that of the embedding."""

    def __init__(self, width: int, vocab: int, bias: bool, tied: bool, operations: Operations = REFERENCE) -> None:
        super().__init__()
        self.operations = operations
        self.width, self.vocab = width, vocab
        self.weight = None if tied else nn.Parameter(torch.empty(vocab, width))
        self.bias = nn.Parameter(torch.zeros(vocab)) if bias else None

    def forward(self, x: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
        """Sum of the loss in nats over all targets that are not -100. x: [..., D]; embedding: [V, D]; targets: [...]."""
        weight = embedding if self.weight is None else self.weight
        return self.operations.linear_cross_entropy(x.reshape(-1, self.width), weight, self.bias, targets.reshape(-1))


def rotary_tables(context: int, width: int, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin of position times frequency, each [T, R/2]; frequencies ``base^(-2i/R)`` (Su et al. 2021, eq. 15)."""
    frequency = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.outer(torch.arange(context, dtype=torch.float64), frequency)
    return angle.cos().float(), angle.sin().float()
