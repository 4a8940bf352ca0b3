"""The parts that models are made of. Every module owns its FLOP count beside ``forward``.

A module whose products belong to a component of the FLOP vector names it in ``component``, so that whoever watches the
operations that really run knows where to book them; ``batched_component`` is for products of activations with activations.

Shapes: B batch, T time, D width, F MLP width, V vocabulary, H heads, K head dimension, N = B*T.
Weights are stored in fp32 and converted to the type of the input where they are used; the embedding sets that type.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from algoprog.config import TransformerConfig
from algoprog.flops import FlopCount, causal_attention_flops, causal_pairs, elementwise_flops, linear_flops
from algoprog.kernels import REFERENCE, Operations, modules


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
        products = linear_flops(component, inputs, outputs, tokens)
        return products if self.bias is None else products + elementwise_flops("bias", outputs * tokens)


class RmsNorm(modules.RMSNorm):
    """Root-mean-square norm with a gain, of a residual stream: ``(norm(s), s)`` for ``s = x + branch``."""

    def flops(self, tokens: int) -> FlopCount:
        return elementwise_flops("rms_norm", self.weight.numel() * tokens, rows=tokens)


class LayerNorm(modules.LayerNorm):
    """Layer norm with a gain and an optional bias, of a residual stream: ``(norm(s), s)`` for ``s = x + branch``."""

    def flops(self, tokens: int) -> FlopCount:
        elements = self.weight.numel() * tokens
        scaled = elementwise_flops("layer_norm", elements, rows=tokens)
        return scaled if self.bias is None else scaled + elementwise_flops("bias", elements)


LAYER_NORM_EPS = 1e-5


def block_norm(config: TransformerConfig, operations: Operations = REFERENCE) -> RmsNorm | LayerNorm:
    """The norm inside blocks; a bias-free model has bias-free norms."""
    if config.norm == "rms":
        return RmsNorm(config.width, config.norm_eps, operations)
    return LayerNorm(config.width, LAYER_NORM_EPS, config.bias, operations)


def final_norm(config: TransformerConfig, operations: Operations = REFERENCE) -> RmsNorm | LayerNorm:
    """The norm before the head; the study's is a LayerNorm with bias whatever the blocks use."""
    if config.final_norm == "rms":
        return RmsNorm(config.width, config.norm_eps, operations)
    return LayerNorm(config.width, LAYER_NORM_EPS, True, operations)


class CausalSelfAttention(nn.Module):
    """One D -> 3D map, causal softmax attention, D -> D. x: [B, T, D]."""

    component, batched_component = "attn_proj", "attn_scores_full"

    def __init__(self, config: TransformerConfig, operations: Operations = REFERENCE) -> None:
        super().__init__()
        self.width, self.rotary = config.width, config.position == "rotary"
        self.qkv = Linear(config.width, 3 * config.width, config.bias)
        self.mix = modules.Attention(config.heads, operations=operations)
        self.out = Linear(config.width, config.width, config.bias)

    def forward(self, x: Tensor, rotary: modules.Rotary | None) -> Tensor:
        return self.out(self.mix(self.qkv(x), rotary))

    def flops(self, tokens: int) -> FlopCount:
        projections = self.qkv.flops(self.component, tokens) + self.out.flops(self.component, tokens)
        mixing = causal_attention_flops(self.width, tokens)
        mixing += elementwise_flops("softmax", self.mix.heads * causal_pairs(tokens))
        return projections + mixing + elementwise_flops("rotary", 2 * self.width * tokens if self.rotary else 0)


class Mlp(nn.Module):
    """D -> F -> D with an activation, or D -> 2F -> F -> D with a gate. x: [B, T, D]."""

    component = "mlp"

    def __init__(self, config: TransformerConfig, operations: Operations = REFERENCE) -> None:
        super().__init__()
        self.activation, self.hidden = modules.Activation(config.activation, operations), config.mlp_width
        self.up = Linear(config.width, self.activation.inputs * config.mlp_width, config.bias)
        self.down = Linear(config.mlp_width, config.width, config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))

    def flops(self, tokens: int) -> FlopCount:
        activation = elementwise_flops(self.activation.name, self.hidden * tokens)
        return self.up.flops(self.component, tokens) + activation + self.down.flops(self.component, tokens)


class VocabularyHead(modules.LinearCrossEntropy):
    """The loss of next-token prediction: D -> V and cross-entropy. Owns a weight only if it is not tied to the embedding."""

    component = "head"

    def flops(self, tokens: int) -> FlopCount:
        logits = self.vocab * tokens
        count = linear_flops(self.component, self.width, self.vocab, tokens)
        count += elementwise_flops("cross_entropy", logits, rows=tokens)
        return count if self.bias is None else count + elementwise_flops("bias", logits)


def sinusoidal_table(context: int, width: int) -> Tensor:
    """[T, D]: sin on even channels, cos on odd ones, wavelengths ``10000^(2i/D)`` (Vaswani et al. 2017, section 3.5)."""
    angle = torch.outer(
        torch.arange(context, dtype=torch.float64),
        torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width)),
    )
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1).float()
