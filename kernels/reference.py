"""Every operation in plain PyTorch: the meaning that fused kernels must reproduce.

Shapes: B batch, T time, D width, F MLP width, V vocabulary, H heads, K head dimension, N = B*T rows. Statistics of norms,
softmax and loss are computed in fp32, for float64 inputs in float64; outputs have the type of the input.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def _wide(x: Tensor) -> Tensor:
    """``x`` in fp32, or in float64 if it is float64: then the reference serves as the exact one in tests."""
    return x if x.dtype == torch.float64 else x.float()


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``x / sqrt(mean(x^2) + eps) * weight`` over the last axis. x: [..., D], weight: [D] (Zhang & Sennrich 2019, eq. 4)."""
    wide = _wide(x)
    return F.rms_norm(wide, x.shape[-1:], weight.to(wide.dtype), eps).to(x.dtype)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """``(rms_norm(s), s)`` for ``s = x + residual``, the next value of the residual stream. x, residual: [..., D]."""
    s = x + residual
    return rms_norm(s, weight, eps), s


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """Layer normalisation over the last axis. x: [..., D]; weight, bias: [D] (Ba et al. 2016, eq. 4)."""
    wide = _wide(x)
    bias = None if bias is None else bias.to(wide.dtype)
    return F.layer_norm(wide, x.shape[-1:], weight.to(wide.dtype), bias, eps).to(x.dtype)


def add_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """``(layer_norm(s), s)`` for ``s = x + residual``, the next value of the residual stream. x, residual: [..., D]."""
    s = x + residual
    return layer_norm(s, weight, bias, eps), s


def swiglu(gate_up: Tensor) -> Tensor:
    """``silu(gate) * up`` of a packed projection. gate_up: [..., 2F] -> [..., F] (Shazeer 2020, eq. 6)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def gated_linear_unit(gate_up: Tensor) -> Tensor:
    """``sigmoid(gate) * up`` of a packed projection. gate_up: [..., 2F] -> [..., F] (Dauphin et al. 2017, eq. 1)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return torch.sigmoid(gate) * up


def gelu(x: Tensor) -> Tensor:
    """``x * Phi(x)`` with the exact normal distribution function, elementwise (Hendrycks & Gimpel 2016, eq. 1)."""
    return F.gelu(x)


def relu(x: Tensor) -> Tensor:
    """``max(x, 0)`` elementwise; NaN stays NaN."""
    return F.relu(x)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding, rotate-half layout over the whole head (Su et al. 2021, eq. 34).

    x: [B, H, T, K]; cos, sin: [T, K/2]. Channel i is paired with channel i + K/2.
    """
    first, second = _wide(x).chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def rope(
    qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, kv_heads: int | None = None, *, inplace: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Split a packed projection into heads and rotate q and k by their positions.

    qkv: [B, T, (H + 2G) * K] as [q heads | k heads | v heads]; cos, sin: [>= T, R/2] with rotary width R <= K, channels
    from R on pass unchanged. Returns q [B, H, T, K] and k, v [B, G, T, K]; G is H unless ``kv_heads`` says otherwise.
    ``inplace`` allows, and does not oblige, an implementation to overwrite ``qkv``.
    """
    groups = heads if kv_heads is None else kv_heads
    K = qkv.shape[-1] // (heads + 2 * groups)
    q, k, v = (
        part.view(*part.shape[:-1], -1, K).transpose(1, 2)
        for part in torch.split(qkv, [heads * K, groups * K, groups * K], dim=-1)
    )  # fmt: skip
    cos, sin = cos[: qkv.shape[1]], sin[: qkv.shape[1]]
    if 2 * cos.shape[-1] == K:
        return rotate(q, cos, sin), rotate(k, cos, sin), v
    R = 2 * cos.shape[-1]
    q, k = (torch.cat((rotate(x[..., :R], cos, sin), x[..., R:]), dim=-1) for x in (q, k))
    return q, k, v


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal softmax attention with scale K^-1/2. q, k, v: [B, H, T, K] -> [B, H, T, K] (Vaswani et al. 2017, eq. 1)."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    *,
    ignore_index: int = -100,
    reduction: str = "sum",
) -> Tensor:
    """Sum over rows of ``-log softmax(hidden @ weight.T + bias)[target]``, in nats.

    hidden: [N, D]; weight: [V, D] in any floating type (it is converted to the type of ``hidden``); bias: [V] or None;
    target: [N] int64, rows with target ``ignore_index`` count nothing. ``reduction``: "sum", "mean" over the rows that
    count, or "none", one loss per row. Returns fp32 (float64 for float64).
    """
    logits = F.linear(hidden, weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype))
    return F.cross_entropy(_wide(logits), target, ignore_index=ignore_index, reduction=reduction)


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


ADAMW_TILE = 1024
"""Elements per entry of ``tile_group`` in :func:`adamw_`."""


@torch.no_grad()
def adamw_(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    tile_group: Tensor,
    lr: Tensor,
    weight_decay: Tensor,
    factors: Tensor,
    step: Tensor,
    norm: Tensor,
    ok: Tensor,
    shadow: Tensor | None,
    loss: Tensor | None,
    beta1: float,
    beta2: float,
    eps: float,
    max_norm: float | None,
) -> None:
    """One AdamW step in place over flat buffers (Loshchilov & Hutter 2019, algorithm 2), clipping and schedule included.

    param, grad, exp_avg, exp_avg_sq: [M] fp32 (or all float64), M a multiple of :data:`ADAMW_TILE`; shadow: [M], a copy of
    param in another type, or None. tile_group: [M / tile] int32, the group of each tile; lr, weight_decay: [groups] float64;
    factors: [S] float64, the learning rate of step s = 0, 1, ... is ``lr * factors[min(s, S - 1)]``. step: int64 scalar, the
    steps done so far; norm: fp32 (float64) scalar, receives the 2-norm of grad; ok: int32 scalar, receives 1 if norm and
    loss are finite, else 0, and then nothing else is written. The gradient is scaled by ``min(1, max_norm / (norm + 1e-6))``,
    as :func:`torch.nn.utils.clip_grad_norm_` does, and left as it is. Nothing waits for the device.
    """
    norm.copy_(torch.linalg.vector_norm(grad))
    fine = norm.isfinite() if loss is None else norm.isfinite() & loss.isfinite().all()
    ok.copy_(fine)
    t = (step + 1).double()
    rate = lr * factors[step.clamp(max=len(factors) - 1)]
    shrink = (rate * weight_decay).to(param.dtype)[tile_group.long()].repeat_interleave(ADAMW_TILE)
    rate = (rate / (1 - beta1**t)).to(param.dtype)[tile_group.long()].repeat_interleave(ADAMW_TILE)
    root = (1 / (1 - beta2**t)).sqrt().to(param.dtype)
    g = grad if max_norm is None else grad * (max_norm / (norm.double() + 1e-6)).clamp(max=1.0).to(grad.dtype)
    m, v = torch.lerp(exp_avg, g, 1 - beta1), torch.lerp(exp_avg_sq, g * g, 1 - beta2)
    p = param - param * shrink - rate * m / (v.sqrt() * root + eps)
    for old, new in ((param, p), (exp_avg, m), (exp_avg_sq, v), (step, step + 1)):
        old.copy_(torch.where(fine, new, old))
    if shadow is not None:
        shadow.copy_(torch.where(fine, param.to(shadow.dtype), shadow))
