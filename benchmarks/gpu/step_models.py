"""The three architectures of arXiv 2511.21622 as plain PyTorch, with exact FLOPs: modern, retro and lstm.

Weights are fp32 and converted where they are used; the embedding's output sets the compute type. D width, T context, V
vocabulary, F = 4 D, depth and heads D / 16; embedding and head share one table. Nothing here is imported from a package.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BPTT = 32  # gradients of the LSTM flow through this many steps
ARCHITECTURES = ("modern", "retro", "lstm")


class Linear(nn.Module):
    """``x @ weight.T + bias`` in the type of x."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * 0.02)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class Norm(nn.Module):
    """RMSNorm (no bias) or LayerNorm with statistics in at least fp32."""

    def __init__(self, width: int, rms: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = None if rms else nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.bias is None:
            return F.rms_norm(wide, wide.shape[-1:], self.weight.to(wide.dtype), 1e-8).to(x.dtype)
        weight, bias = self.weight.to(wide.dtype), self.bias.to(wide.dtype)
        return F.layer_norm(wide, wide.shape[-1:], weight, bias, 1e-5).to(x.dtype)


class Block(nn.Module):
    """Attention and MLP; ``modern``: norm before, rotary positions, SwiGLU; else norm after, GELU."""

    def __init__(self, width: int, modern: bool) -> None:
        super().__init__()
        self.modern, self.heads, inner = modern, width // 16, 4 * width
        self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)
        self.up, self.down = Linear(width, inner * (2 if modern else 1)), Linear(inner, width)
        self.first, self.second = Norm(width, modern), Norm(width, modern)

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        if self.modern:
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, D))

    def mlp(self, x: Tensor) -> Tensor:
        hidden = self.up(x)
        if not self.modern:
            return self.down(F.gelu(hidden))
        gate, up = hidden.chunk(2, -1)
        return self.down(F.silu(gate) * up)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if self.modern:
            x = x + self.attend(self.first(x), cos, sin)
            return x + self.mlp(self.second(x))
        x = self.first(x + self.attend(x, cos, sin))
        return self.second(x + self.mlp(x))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions, rotate-half layout (Su et al. 2021, eq. 34). x: [B, H, T, K]; tables: [T, K/2]."""
    wide = x.to(torch.promote_types(x.dtype, cos.dtype))
    a, b = wide.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def recurrence(x: Tensor, state: tuple[Tensor, Tensor], weights: list[Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One cuDNN LSTM layer; kept out of torch.compile, which would unroll the steps."""
    y, h, c = torch._VF.lstm(x, state, weights, True, 1, 0.0, False, False, True)
    return y, (h, c)


class Model(nn.Module):
    """Token ids [B, T] and targets [B, T] in, mean next-token loss out."""

    cos: Tensor
    sin: Tensor

    def __init__(self, arch: str, width: int, vocab: int, context: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.arch, self.width, self.vocab, self.dtype = arch, width, vocab, dtype
        self.embedding = nn.Parameter(torch.randn(vocab, width) * 0.02)
        self.head_bias = nn.Parameter(torch.zeros(vocab))
        if arch == "lstm":
            bound = width**-0.5
            shapes = ((4 * width, width), (4 * width, width), (4 * width,), (4 * width,))
            self.lstm = nn.ParameterList(nn.Parameter(torch.empty(s).uniform_(-bound, bound)) for s in shapes)
        else:
            self.blocks = nn.ModuleList(Block(width, arch == "modern") for _ in range(width // 16))
            self.norm = Norm(width, rms=False)
        cos, sin = self._positions(context)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def _positions(self, context: int) -> tuple[Tensor, Tensor]:
        """Rotary tables [T, K/2], or the sinusoidal table [T, D] of Vaswani et al. 2017, section 3.5, in the place of cos."""
        rotary = self.arch == "modern"
        size = 16 if rotary else self.width
        frequency = 10000.0 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        angle = torch.outer(torch.arange(context, dtype=torch.float64), frequency)
        if rotary:
            return angle.cos().float(), angle.sin().float()
        return torch.stack((angle.sin(), angle.cos()), -1).flatten(1).float(), torch.empty(0)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        x = F.embedding(inputs, self.embedding)
        x = self._recurrent(x.to(self.dtype)) if self.arch == "lstm" else self._attentive(x)
        logits = F.linear(x.flatten(0, 1), self.embedding.to(x.dtype), self.head_bias.to(x.dtype))
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.cross_entropy(wide, targets.flatten())

    def _attentive(self, x: Tensor) -> Tensor:
        if self.arch == "retro":
            x = x * math.sqrt(self.width) + self.cos
        x = x.to(self.dtype)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.norm(x)

    def _recurrent(self, x: Tensor) -> Tensor:
        weights = [p.to(x.dtype) for p in self.lstm]
        zero = x.new_zeros(1, x.shape[0], self.width)
        state, outputs = (zero, zero), []
        for window in torch.split(x, BPTT, 1):
            y, state = recurrence(window, (state[0].detach(), state[1].detach()), weights)
            outputs.append(y)
        return torch.cat(outputs, 1)

    def training_flops(self, sequences: int, context: int) -> int:
        """Forward and backward FLOPs of one step, matrix products only, causal scores by visible pairs."""
        tokens, d = sequences * context, self.width
        forward = 2 * d * self.vocab * tokens
        if self.arch == "lstm":
            return 3 * (forward + 16 * d * d * tokens)
        inner = 4 * d * d * (6 if self.arch == "modern" else 4)
        scores = 4 * d * (context * (context + 1) // 2) * sequences
        return 3 * (forward + (d // 16) * ((8 * d * d + inner) * tokens + scores))
