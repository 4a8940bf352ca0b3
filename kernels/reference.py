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

    x: [B, H, T, K]; cos, sin: [T, K/2], or [B, 1, T, K/2]. Channel i is paired with channel i + K/2.
    """
    first, second = _wide(x).chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def split_heads(qkv: Tensor, heads: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Views q [B, H, T, K] and k, v [B, G, T, K] of a packed projection [B, T, (H + 2G) K]."""
    K = qkv.shape[-1] // (heads + 2 * kv_heads)
    q, k, v = (
        part.view(*part.shape[:-1], -1, K).transpose(1, 2)
        for part in torch.split(qkv, [heads * K, kv_heads * K, kv_heads * K], dim=-1)
    )  # fmt: skip
    return q, k, v


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
    """Split a packed projection into heads and rotate q and k by their positions.

    qkv: [B, T, (H + 2G) * K] as [q heads | k heads | v heads]; cos, sin: [>= T, R/2] with rotary width R <= K, channels
    from R on pass unchanged. Returns q [B, H, T, K] and k, v [B, G, T, K]; G is H unless ``kv_heads`` says otherwise.
    ``positions``: int64 [T] or [B, T], the row of the tables for each token; None counts 0, 1, ... A position outside the
    tables gives NaN: nothing on a GPU can raise without waiting.
    ``inplace`` allows, and does not oblige, an implementation to overwrite ``qkv``.
    """
    q, k, v = split_heads(qkv, heads, heads if kv_heads is None else kv_heads)
    cos, sin = (_at_positions(table, positions, qkv.shape[1]) for table in (cos, sin))
    return _rotate_part(q, cos, sin), _rotate_part(k, cos, sin), v


def qk_norm_rope(
    qkv: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    heads: int,
    kv_heads: int | None = None,
    *,
    eps: float,
    positions: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`rope` of normed queries and keys: every head of q and k passes through :func:`rms_norm` first.

    q_weight, k_weight: [K], one gain for all heads. Normed queries and keys bound the scores of attention (Henry et al.
    2020, section 3; with a learned gain per channel Dehghani et al. 2023, section 2). The rest as in :func:`rope`.
    """
    q, k, v = split_heads(qkv, heads, heads if kv_heads is None else kv_heads)
    cos, sin = (_at_positions(table, positions, qkv.shape[1]) for table in (cos, sin))
    q, k = rms_norm(q, q_weight, eps), rms_norm(k, k_weight, eps)
    return _rotate_part(q, cos, sin), _rotate_part(k, cos, sin), v


def _at_positions(table: Tensor, positions: Tensor | None, steps: int) -> Tensor:
    """Rows of a rotary table: [T, R/2] for the positions 0, 1, ..., else [T, R/2] or [B, 1, T, R/2]."""
    if positions is None:
        return table[:steps]
    known = (positions >= 0) & (positions < len(table))
    rows = table[torch.where(known, positions, 0)].masked_fill(~known[..., None], torch.nan)
    return rows if positions.ndim == 1 else rows[:, None]


def _rotate_part(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The first R channels of x [B, H, T, K] rotated, the others as they are."""
    R = 2 * cos.shape[-1]
    if R == x.shape[-1]:
        return rotate(x, cos, sin)
    return torch.cat((rotate(x[..., :R], cos, sin), x[..., R:]), dim=-1)


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
    x: Tensor,
    state: tuple[Tensor, Tensor],
    weights: tuple[Tensor, Tensor],
    biases: tuple[Tensor, Tensor] | None,
    *,
    keep: Tensor | None = None,
    lengths: Tensor | None = None,
    bptt: int | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One LSTM layer over a sequence, PyTorch's gate order i, f, g, o (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    x: [B, T, I]; state: (h, c), each [1, B, H]; weights: input [4H, I] and recurrent [4H, H]; biases: two of [4H].
    Returns the outputs [B, T, H] and the last state. Weights and state are converted to the type of ``x``.

    keep: [B, T] bool or uint8, 0 clears h and c of a sequence before that step. lengths: [B] integers from 1 to T; outputs
    beyond a sequence's length are 0, its last state is that of its last step, and what x holds there does not matter.
    ``bptt``: gradients flow through the state for at most so many steps: they stop before every step that is a multiple of
    it, 0 excepted, while values do not change (truncation as of Williams & Peng 1990).

    Runs PyTorch's own operator (cuDNN on a GPU), window by window with ``bptt``; with resets or lengths, which that operator
    does not know, :func:`lstm_steps`.
    """
    if keep is not None or lengths is not None:
        return lstm_steps(x, state, weights, biases, keep=keep, lengths=lengths, bptt=bptt)
    outputs: list[Tensor] = []
    hidden = state
    for window in torch.split(x, bptt or x.shape[1], dim=1):
        if outputs:
            hidden = (hidden[0].detach(), hidden[1].detach())
        # Converted once per window, so that gradients of the windows are added in the type of the weights.
        params = [p.to(x.dtype) for p in (*weights, *(biases or ()))]
        hidden = (hidden[0].to(x.dtype), hidden[1].to(x.dtype))
        y, h, c = torch._VF.lstm(window, hidden, params, biases is not None, 1, 0.0, False, False, True)
        outputs.append(y)
        hidden = (h, c)
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1), hidden


def lstm_steps(
    x: Tensor,
    state: tuple[Tensor, Tensor],
    weights: tuple[Tensor, Tensor],
    biases: tuple[Tensor, Tensor] | None,
    *,
    keep: Tensor | None = None,
    lengths: Tensor | None = None,
    bptt: int | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """:func:`lstm` step by step in elementary operations: any device, any floating type, all of it in the type of ``x``."""
    w_x, w_h = (w.to(x.dtype) for w in weights)
    bias = None if biases is None else (biases[0] + biases[1]).to(x.dtype)
    h, c = (part[0].to(x.dtype) for part in state)
    valid = None
    if lengths is not None:
        valid = torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]
        x = torch.where(valid[..., None], x, 0.0)
    gates, outputs = F.linear(x, w_x, bias), []
    for t in range(x.shape[1]):
        before_h, before_c = h, c
        if bptt is not None and t and t % bptt == 0:
            before_h, before_c = h.detach(), c.detach()
        if keep is not None:
            kept = keep[:, t, None] != 0
            before_h, before_c = torch.where(kept, before_h, 0.0), torch.where(kept, before_c, 0.0)
        i, f, g, o = (gates[:, t] + F.linear(before_h, w_h)).chunk(4, dim=-1)
        new_c = torch.sigmoid(f) * before_c + torch.sigmoid(i) * torch.tanh(g)
        new_h = torch.sigmoid(o) * torch.tanh(new_c)
        if valid is None:
            h, c = new_h, new_c
            outputs.append(h)
        else:  # beyond its length a sequence keeps its last state, whatever keep and bptt say of those steps
            here = valid[:, t, None]
            h, c = torch.where(here, new_h, h), torch.where(here, new_c, c)
            outputs.append(torch.where(here, new_h, 0.0))
    return torch.stack(outputs, dim=1), (h[None], c[None])


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
    rate = lr * factors.take(step.clamp(max=len(factors) - 1))  # an index in brackets would be read by the host
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
