"""The parts that models are made of. Every module that multiplies matrices owns its FLOP count beside ``forward``.

Shapes: B batch, T time, D width, F MLP width, V vocabulary, H heads, K head dimension, N = B*T.
Weights are stored in fp32 and converted to the type of the input where they are used; the embedding sets that type.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from algoprog import kernels
from algoprog.config import TransformerConfig
from algoprog.flops import FlopCount, causal_scores_flops, linear_flops


class Linear(nn.Module):
    """``x @ weight.T + bias`` in the type of ``x``. x: [..., inputs] -> [..., outputs]."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return nn.functional.linear(x, self.weight.to(x.dtype), bias)

    def flops(self, component: str, tokens: int) -> FlopCount:
        outputs, inputs = self.weight.shape
        return linear_flops(component, inputs, outputs, tokens)


class RmsNorm(nn.Module):
    """Root-mean-square norm with a gain. x: [..., D]."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return kernels.rms_norm(x, self.weight, self.eps)


class LayerNorm(nn.Module):
    """Layer norm with a gain and an optional bias. x: [..., D]."""

    def __init__(self, width: int, eps: float, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return kernels.layer_norm(x, self.weight, self.bias, self.eps)


LAYER_NORM_EPS = 1e-5


def block_norm(config: TransformerConfig) -> nn.Module:
    """The norm inside blocks; a bias-free model has bias-free norms."""
    if config.norm == "rms":
        return RmsNorm(config.width, config.norm_eps)
    return LayerNorm(config.width, LAYER_NORM_EPS, config.bias)


def final_norm(config: TransformerConfig) -> nn.Module:
    """The norm before the head; the study's is a LayerNorm with bias whatever the blocks use."""
    if config.final_norm == "rms":
        return RmsNorm(config.width, config.norm_eps)
    return LayerNorm(config.width, LAYER_NORM_EPS, bias=True)


class CausalSelfAttention(nn.Module):
    """One D -> 3D map, causal softmax attention, D -> D. x: [B, T, D]."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.width = config.width
        self.qkv = Linear(config.width, 3 * config.width, config.bias)
        self.out = Linear(config.width, config.width, config.bias)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        if rotary is not None:
            q, k = kernels.rotate(q, *rotary), kernels.rotate(k, *rotary)
        mixed = kernels.causal_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(B, T, D))

    def flops(self, tokens: int) -> FlopCount:
        projections = self.qkv.flops("attn_proj", tokens) + self.out.flops("attn_proj", tokens)
        return projections + causal_scores_flops(self.width, tokens)


Activation = Callable[[Tensor], Tensor]
GATED: dict[str, Activation] = {"swiglu": kernels.swiglu, "glu": kernels.gated_linear_unit}
PLAIN: dict[str, Activation] = {"gelu": nn.functional.gelu, "relu": nn.functional.relu}


class Mlp(nn.Module):
    """D -> F -> D with an activation, or D -> 2F -> F -> D with a gate. x: [B, T, D]."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        gated = config.activation in GATED
        self.activation = GATED[config.activation] if gated else PLAIN[config.activation]
        self.up = Linear(config.width, config.mlp_width * (2 if gated else 1), config.bias)
        self.down = Linear(config.mlp_width, config.width, config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))

    def flops(self, tokens: int) -> FlopCount:
        return self.up.flops("mlp", tokens) + self.down.flops("mlp", tokens)


class VocabularyHead(nn.Module):
    """The loss of next-token prediction: D -> V and cross-entropy. Owns a weight only if it is not tied to the embedding."""

    def __init__(self, width: int, vocab: int, bias: bool, tied: bool) -> None:
        super().__init__()
        self.width, self.vocab = width, vocab
        self.weight = None if tied else nn.Parameter(torch.empty(vocab, width))
        self.bias = nn.Parameter(torch.zeros(vocab)) if bias else None

    def forward(self, x: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
        """Sum of the loss in nats over all targets that are not -100. x: [B, T, D]; targets: [B, T]."""
        weight = embedding if self.weight is None else self.weight
        return kernels.linear_cross_entropy(x.reshape(-1, self.width), weight, self.bias, targets.reshape(-1))

    def flops(self, tokens: int) -> FlopCount:
        return linear_flops("head", self.width, self.vocab, tokens)


def rotary_tables(context: int, head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin of position times frequency, each [T, K/2]; frequencies ``base^(-2i/K)`` (Su et al. 2021, eq. 15)."""
    frequency = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle = torch.outer(torch.arange(context, dtype=torch.float64), frequency)
    return angle.cos().float(), angle.sin().float()


def sinusoidal_table(context: int, width: int) -> Tensor:
    """[T, D]: sin on even channels, cos on odd ones, wavelengths ``10000^(2i/D)`` (Vaswani et al. 2017, section 3.5)."""
    angle = torch.outer(
        torch.arange(context, dtype=torch.float64),
        torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width)),
    )
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1).float()
