"""Rotary position embedding of normed queries and keys: rope with an RMSNorm of every head of q and k before it, one pass.

Per head of width K with gain w (one for q, one for k): ``rstd = 1 / sqrt(mean(x^2) + eps)``, ``n = x * rstd * w``, then the
rotation of :mod:`algoprog.kernels.fused.rope`. v passes unchanged. Backward from dy: ``dn`` is dy rotated by the opposite
angle, ``a = w * dn``, ``xhat = x * rstd``, ``dx = rstd * (a - xhat * mean(a * xhat))``, ``dw = sum over tokens and heads of
dn * xhat`` (Zhang & Sennrich 2019, eq. 4; Su et al. 2021, eq. 34).

Tensors as in that file; q_weight, k_weight [K] in any kernel type. Saved for the backward pass: qkv; rstd is computed again,
for the rows are read anyway. Bytes per token in bf16 with H = G: 12 HK forward, 16 HK backward (q and k are read as well).
Arithmetic is fp32 with one rounding per output, none between norm and rotation. No atomics: gradients of the gains are
partial sums per program, in fp32, added in a fixed order.

Checked without a GPU: accuracy in the interpreter, budgets of the compiler's output for sm_80 and sm_90.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from algoprog.kernels.formulas import register_formula
from algoprog.kernels.fused import launch
from algoprog.kernels.fused.launch import (
    alignment,
    ceil_div,
    next_power_of_2,
    on_device_of,
    require,
    require_input,
    require_shape,
)
from algoprog.kernels.fused.qk_norm_kernels import norm_and_rotate, rotate_back
from algoprog.kernels.fused.rotation import check_rotation, position_strides, split, tile, unit_stride


@dataclass(frozen=True)
class _Geometry:
    """Tile and grid for q of H heads and k, v of G heads, of width K and rotary width 2 * HALF."""

    constants: dict[str, int]
    tiles: int
    q_blocks: int
    k_blocks: int

    @classmethod
    def of(cls, tokens: int, heads: int, kv_heads: int, width: int, half: int) -> _Geometry:
        tile_tokens, tile_heads, columns = tile(max(heads, kv_heads), half)
        constants = {
            "H": heads, "G": kv_heads, "K": width, "HALF": half, "TOKENS": tile_tokens, "HEADS": tile_heads,
            "HALF_COLUMNS": columns, "REST_COLUMNS": next_power_of_2(max(1, width - 2 * half)),
        }  # fmt: skip
        return cls(
            constants, ceil_div(tokens, tile_tokens), ceil_div(heads, tile_heads), ceil_div(kv_heads, tile_heads)
        )


def _launch_forward(
    qkv: Tensor, q_weight: Tensor, k_weight: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None, heads: int,
    kv_heads: int, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    q, k, v = (torch.empty(p.shape, dtype=p.dtype, device=p.device) for p in split(qkv, heads, kv_heads))
    batch, steps, width = *qkv.shape[:2], q.shape[-1]
    if q.numel():
        qkv = unit_stride(qkv)
        how = _Geometry.of(batch * steps, heads, kv_heads, width, cos.shape[-1])
        strides = [*qkv.stride()[:2], *v.stride()[:2]]
        unit = alignment(*strides, width)
        with on_device_of(qkv):
            norm_and_rotate[(how.tiles, how.q_blocks + 2 * how.k_blocks)](
                qkv, q_weight.contiguous(), k_weight.contiguous(), q, k, v, cos.contiguous(), sin.contiguous(), positions,
                *(stride // unit for stride in strides), *position_strides(positions), batch * steps, steps, len(cos),
                UNIT=unit, EPS=eps, num_warps=4, **how.constants,
            )  # fmt: skip
    return q, k, v


def _launch_backward(
    dq: Tensor, dk: Tensor, dv: Tensor, qkv: Tensor, q_weight: Tensor, k_weight: Tensor, cos: Tensor, sin: Tensor,
    positions: Tensor | None, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(dqkv, dq_weight, dk_weight), the last two in fp32."""
    batch, steps, heads, width = dq.shape
    how = _Geometry.of(batch * steps, heads, dk.shape[2], width, cos.shape[-1])
    programs = min(how.tiles, max(1, launch.PROGRAMS // (how.q_blocks + 2 * how.k_blocks)))
    partial = torch.empty(programs, how.q_blocks + how.k_blocks, width, dtype=torch.float32, device=qkv.device)
    dqkv = torch.empty(qkv.shape, dtype=qkv.dtype, device=qkv.device)
    if dq.numel():
        qkv, dq, dk, dv = (unit_stride(x) for x in (qkv, dq, dk, dv))
        strides = [
            *qkv.stride()[:2], *dq.stride()[:3], *dk.stride()[:3], *dv.stride()[:3], *dqkv.stride()[:2],
        ]  # fmt: skip
        unit = alignment(*strides)
        with on_device_of(qkv):
            rotate_back[(programs, how.q_blocks + 2 * how.k_blocks)](
                qkv, q_weight.contiguous(), k_weight.contiguous(), dq, dk, dv, dqkv, partial, cos.contiguous(),
                sin.contiguous(), positions, *(stride // unit for stride in strides), *position_strides(positions),
                batch * steps, steps, len(cos), UNIT=unit, EPS=eps, num_warps=4, **how.constants,
            )  # fmt: skip
    return dqkv, partial[:, : how.q_blocks].sum((0, 1)), partial[:, how.q_blocks :].sum((0, 1))


@torch.library.custom_op("algoprog::qk_norm_rope", mutates_args=())
def _qk_norm_rope(
    qkv: Tensor, q_weight: Tensor, k_weight: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None, heads: int,
    kv_heads: int, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return _launch_forward(qkv, q_weight, k_weight, cos, sin, positions, heads, kv_heads, eps)


@torch.library.custom_op("algoprog::qk_norm_rope_backward", mutates_args=())
def _qk_norm_rope_backward(
    dq: Tensor, dk: Tensor, dv: Tensor, qkv: Tensor, q_weight: Tensor, k_weight: Tensor, cos: Tensor, sin: Tensor,
    positions: Tensor | None, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return _launch_backward(dq, dk, dv, qkv, q_weight, k_weight, cos, sin, positions, eps)


@_qk_norm_rope.register_fake
def _(
    qkv: Tensor, q_weight: Tensor, k_weight: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None, heads: int,
    kv_heads: int, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    q, k, v = (p.new_empty(p.shape) for p in split(qkv, heads, kv_heads))
    return q, k, v


@_qk_norm_rope_backward.register_fake
def _(
    dq: Tensor, dk: Tensor, dv: Tensor, qkv: Tensor, q_weight: Tensor, k_weight: Tensor, cos: Tensor, sin: Tensor,
    positions: Tensor | None, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    dq_weight, dk_weight = (w.new_empty(w.shape, dtype=torch.float32) for w in (q_weight, k_weight))
    return qkv.new_empty(qkv.shape), dq_weight, dk_weight


def _save(ctx, inputs, output) -> None:
    *tensors, _, _, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx, dq, dk, dv):
    qkv, q_weight, k_weight, *rest = ctx.saved_tensors
    dqkv, dq_weight, dk_weight = torch.ops.algoprog.qk_norm_rope_backward(
        dq, dk, dv, qkv, q_weight, k_weight, *rest, ctx.eps
    )
    return dqkv, dq_weight.to(q_weight.dtype), dk_weight.to(k_weight.dtype), *[None] * 6


_qk_norm_rope.register_autograd(_differentiate, setup_context=_save)
for _op in ("qk_norm_rope", "qk_norm_rope_backward"):
    register_formula(_op)


def qk_norm_rope(
    qkv: Tensor, q_weight: Tensor, k_weight: Tensor, cos: Tensor, sin: Tensor, heads: int, kv_heads: int | None = None, *,
    eps: float, positions: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """As :func:`algoprog.kernels.reference.qk_norm_rope`. Raises ValueError on a bad argument."""
    op, groups = "qk_norm_rope", heads if kv_heads is None else kv_heads
    check_rotation(op, qkv, cos, sin, heads, groups, positions)
    width = qkv.shape[-1] // (heads + 2 * groups)
    for name, weight in (("q_weight", q_weight), ("k_weight", k_weight)):
        require_input(op, name, weight, like=qkv)
        require_shape(op, name, weight, (width,))
    require(eps > 0, op, "eps", "a number above 0", eps)
    q, k, v = torch.ops.algoprog.qk_norm_rope(qkv, q_weight, k_weight, cos, sin, positions, heads, groups, eps)
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
