"""Rotary position embedding: splits a packed qkv projection into heads and rotates q and k, forward and backward.

Per head of width K and rotary width R <= K, channel i < R/2 is paired with channel i + R/2:
``(a, b) -> (a cos - b sin, b cos + a sin)`` (Su et al. 2021, eq. 34); channels from R on and v pass unchanged. The
backward pass rotates by the opposite angle and writes one packed gradient, so that neither the split nor its gradient
needs a pass of its own.

Tensors: qkv [B, T, (H + 2G) K] = [q heads | k heads | v heads], rows with any stride; q [B, T, H, K] and k, v [B, T, G, K]
contiguous, seen by the caller as [B, H, T, K]; their gradients with any strides but 1 along K; cos, sin fp32 [rows, R/2];
positions int64 [T] or [B, T], the row of each token, None for 0, 1, ... A position without a row gives NaN.
Bytes per token in bf16 with H = G: 12 HK forward, 12 HK backward; in place 8 HK, v untouched. Arithmetic is fp32 with one
rounding per output. If R/2 is not a multiple of 8 the second half of a head is aligned to fewer than 16 bytes.

Checked without a GPU: accuracy in the interpreter, budgets of the compiler's output for sm_80 and sm_90.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from algoprog.kernels.formulas import register_formula
from algoprog.kernels.fused.launch import alignment, ceil_div, next_power_of_2, on_device_of, require
from algoprog.kernels.fused.rotation import check_rotation, move, position_strides, split, tile, unit_stride


@triton.jit(
    do_not_specialize=[
        "packed_b", "packed_t", "q_b", "q_t", "q_h", "k_b", "k_t", "k_h", "v_b", "v_t", "v_h", "position_b",
        "position_t", "tokens", "steps", "rows",
    ]
)  # fmt: skip
def rotate_parts(
    packed_ptr, q_ptr, k_ptr, v_ptr, cos_ptr, sin_ptr, position_ptr, packed_b, packed_t, q_b, q_t, q_h, k_b, k_t, k_h, v_b,
    v_t, v_h, position_b, position_t, tokens, steps, rows, UNIT: tl.constexpr, H: tl.constexpr, G: tl.constexpr,
    K: tl.constexpr, HALF: tl.constexpr, BACKWARD: tl.constexpr, TOKENS: tl.constexpr, HEADS: tl.constexpr,
    HALF_COLUMNS: tl.constexpr, REST_COLUMNS: tl.constexpr,
):  # fmt: skip
    """Axis 0 of the grid is tiles of tokens, axis 1 blocks of heads of q, then of k, then of v (absent in place).

    Strides over batch (b), time (t) and heads (h) are in units of UNIT elements.
    """
    first_token = tl.program_id(0) * TOKENS
    block = tl.program_id(1)
    Q_BLOCKS: tl.constexpr = (H + HEADS - 1) // HEADS
    K_BLOCKS: tl.constexpr = (G + HEADS - 1) // HEADS
    if block < Q_BLOCKS:
        move(packed_ptr, q_ptr, cos_ptr, sin_ptr, position_ptr, packed_b, packed_t, q_b, q_t, q_h, position_b, position_t,
             first_token, block * HEADS, tokens, steps, rows, H, UNIT, K, HALF, True, BACKWARD, TOKENS, HEADS, HALF_COLUMNS,
             REST_COLUMNS)  # fmt: skip
    elif block < Q_BLOCKS + K_BLOCKS:
        move(packed_ptr + H * K, k_ptr, cos_ptr, sin_ptr, position_ptr, packed_b, packed_t, k_b, k_t, k_h, position_b,
             position_t, first_token, (block - Q_BLOCKS) * HEADS, tokens, steps, rows, G, UNIT, K, HALF, True, BACKWARD,
             TOKENS, HEADS, HALF_COLUMNS, REST_COLUMNS)  # fmt: skip
    else:
        if v_ptr is not None:
            move(packed_ptr + (H + G) * K, v_ptr, cos_ptr, sin_ptr, position_ptr, packed_b, packed_t, v_b, v_t, v_h,
                 position_b, position_t, first_token, (block - Q_BLOCKS - K_BLOCKS) * HEADS, tokens, steps, rows, G, UNIT, K,
                 HALF, False, BACKWARD, TOKENS, HEADS, HALF_COLUMNS, REST_COLUMNS)  # fmt: skip


def _launch(
    packed: Tensor, q: Tensor, k: Tensor, v: Tensor | None, cos: Tensor, sin: Tensor, positions: Tensor | None, *,
    backward: bool,
) -> None:  # fmt: skip
    """packed: [B, T, (H + 2G) K]; q, k, v: [B, T, heads, K] with unit stride along K; v None is left alone."""
    batch, steps, heads, width = q.shape
    kv_heads, half = k.shape[2], cos.shape[-1]
    require(batch * steps < 2**31, "rope", "qkv", "fewer than 2^31 tokens", batch * steps)
    if not q.numel():
        return
    tile_tokens, tile_heads, columns = tile(max(heads, kv_heads), half)
    blocks = ceil_div(heads, tile_heads) + (1 if v is None else 2) * ceil_div(kv_heads, tile_heads)
    strides = [*packed.stride()[:2], *q.stride()[:3], *k.stride()[:3], *((0, 0, 0) if v is None else v.stride()[:3])]
    unit = alignment(*strides)
    with on_device_of(q):
        rotate_parts[(ceil_div(batch * steps, tile_tokens), blocks)](
            packed, q, k, v, cos.contiguous(), sin.contiguous(), positions, *(stride // unit for stride in strides),
            *position_strides(positions), batch * steps, steps, len(cos), UNIT=unit, H=heads, G=kv_heads, K=width, HALF=half,
            BACKWARD=backward, TOKENS=tile_tokens, HEADS=tile_heads, HALF_COLUMNS=columns,
            REST_COLUMNS=next_power_of_2(max(1, width - 2 * half)), num_warps=4,
        )  # fmt: skip


@torch.library.custom_op("algoprog::rope", mutates_args=())
def _rope(
    qkv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None, heads: int, kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (torch.empty(p.shape, dtype=p.dtype, device=p.device) for p in split(qkv, heads, kv_heads))
    _launch(unit_stride(qkv), q, k, v, cos, sin, positions, backward=False)
    return q, k, v


@torch.library.custom_op("algoprog::rope_backward", mutates_args=())
def _rope_backward(dq: Tensor, dk: Tensor, dv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None) -> Tensor:
    batch, steps, heads, width = dq.shape
    dqkv = torch.empty((batch, steps, (heads + 2 * dk.shape[2]) * width), dtype=dq.dtype, device=dq.device)
    _launch(dqkv, unit_stride(dq), unit_stride(dk), unit_stride(dv), cos, sin, positions, backward=True)
    return dqkv


@torch.library.custom_op("algoprog::rope_", mutates_args=("qkv",))
def _rope_in_place(qkv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None, heads: int, kv_heads: int) -> None:
    q, k, _ = split(qkv, heads, kv_heads)
    _launch(qkv, q, k, None, cos, sin, positions, backward=False)


@_rope.register_fake
def _(
    qkv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None, heads: int, kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (p.new_empty(p.shape) for p in split(qkv, heads, kv_heads))
    return q, k, v


@_rope_backward.register_fake
def _(dq: Tensor, dk: Tensor, dv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None) -> Tensor:
    return dq.new_empty((*dq.shape[:2], (dq.shape[2] + 2 * dk.shape[2]) * dq.shape[3]))


@_rope_in_place.register_fake
def _(qkv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None, heads: int, kv_heads: int) -> None:
    return None


def _save(ctx, inputs, output) -> None:
    _, cos, sin, positions, _, _ = inputs
    ctx.save_for_backward(cos, sin, positions)


def _differentiate(ctx, dq, dk, dv):
    return torch.ops.algoprog.rope_backward(dq, dk, dv, *ctx.saved_tensors), *[None] * 5


_rope.register_autograd(_differentiate, setup_context=_save)
for _op in ("rope", "rope_backward", "rope_"):
    register_formula(_op)


def rope(
    qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, kv_heads: int | None = None, *, positions: Tensor | None = None,
    inplace: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """As :func:`algoprog.kernels.reference.rope`; ``inplace`` overwrites the q and k parts of ``qkv`` and returns views.

    Raises:
        ValueError: a bad argument, or ``inplace`` where a gradient of ``qkv`` is recorded.
    """
    groups = heads if kv_heads is None else kv_heads
    check_rotation("rope", qkv, cos, sin, heads, groups, positions)
    if inplace:
        recorded = torch.is_grad_enabled() and qkv.requires_grad
        require(not recorded, "rope", "inplace", "False while a gradient of qkv is recorded", True)
        require(qkv.stride(-1) == 1, "rope", "qkv", "unit stride along the last dimension", tuple(qkv.stride()))
        torch.ops.algoprog.rope_(qkv, cos, sin, positions, heads, groups)
        q, k, v = split(qkv, heads, groups)
    else:
        q, k, v = torch.ops.algoprog.rope(qkv, cos, sin, positions, heads, groups)
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
