"""Every operation in plain PyTorch: the meaning that fused kernels must reproduce.

Shapes: B batch, T time, D width, F MLP width, V vocabulary, H heads, K head dimension, N = B*T rows. Statistics of norms,
softmax and loss are computed in fp32 whatever the input type; outputs have the type of the input.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``x / sqrt(mean(x^2) + eps) * weight`` over the last axis. x: [..., D], weight: [D] (Zhang & Sennrich 2019, eq. 4)."""
    return F.rms_norm(x.float(), x.shape[-1:], weight.float(), eps).to(x.dtype)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """Layer normalisation over the last axis. x: [..., D]; weight, bias: [D] (Ba et al. 2016, eq. 4)."""
    bias = None if bias is None else bias.float()
    return F.layer_norm(x.float(), x.shape[-1:], weight.float(), bias, eps).to(x.dtype)


def swiglu(gate_up: Tensor) -> Tensor:
    """``silu(gate) * up`` of a packed projection. gate_up: [..., 2F] -> [..., F] (Shazeer 2020, eq. 6)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def gated_linear_unit(gate_up: Tensor) -> Tensor:
    """``sigmoid(gate) * up`` of a packed projection. gate_up: [..., 2F] -> [..., F] (Dauphin et al. 2017, eq. 1)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return torch.sigmoid(gate) * up


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding, rotate-half layout over the whole head (Su et al. 2021, eq. 34).

    x: [B, H, T, K]; cos, sin: [T, K/2]. Channel i is paired with channel i + K/2.
    """
    first, second = x.float().chunk(2, dim=-1) if x.dtype != torch.float64 else x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal softmax attention with scale K^-1/2. q, k, v: [B, H, T, K] -> [B, H, T, K] (Vaswani et al. 2017, eq. 1)."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor) -> Tensor:
    """Sum over rows of ``-log softmax(hidden @ weight.T + bias)[target]``, in nats.

    hidden: [N, D]; weight: [V, D] in any floating type (it is converted to the type of ``hidden``); bias: [V] or None;
    target: [N] int64, rows with target -100 count nothing. Returns a scalar in fp32.
    """
    logits = F.linear(hidden, weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype))
    return F.cross_entropy(logits.float(), target, ignore_index=-100, reduction="sum")


def lstm(
    x: Tensor, state: tuple[Tensor, Tensor], weights: tuple[Tensor, Tensor], biases: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One LSTM layer over a sequence, PyTorch's gate order i, f, g, o (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    x: [B, T, I]; state: (h, c), each [1, B, H]; weights: input [4H, I] and recurrent [4H, H]; biases: two of [4H].
    Returns the outputs [B, T, H] and the last state. Weights and state are converted to the type of ``x``.
    """
    params = [p.to(x.dtype) for p in (*weights, *(biases or ()))]
    hidden = (state[0].to(x.dtype), state[1].to(x.dtype))
    y, h, c = torch._VF.lstm(x, hidden, params, biases is not None, 1, 0.0, False, False, True)
    return y, (h, c)
