"""What the operations share that split a packed qkv projection and rotate its queries and keys.

A tile is TOKENS x HEADS rows of one of q, k, v; a row is one head of one token: its rotated halves and the rest of it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from algoprog.kernels.fused.launch import next_power_of_2, require, require_input

TILE = 1024
"""Rotated pairs per program: 8 of each half per thread with four warps."""


@triton.jit
def angles(
    cos_ptr, sin_ptr, position_ptr, position_b, position_t, batch, step, rows, real, column, inside, HALF: tl.constexpr
):
    """cos and sin for tokens at (batch, step), from tables of so many rows. position_ptr None: the position is the step."""
    if position_ptr is None:
        table = step[:, None] * HALF + column
        return tl.load(cos_ptr + table, mask=inside, other=0.0), tl.load(sin_ptr + table, mask=inside, other=0.0)
    else:
        position = tl.load(position_ptr + batch * position_b + step * position_t, mask=real, other=0)
        known = ((position >= 0) & (position < rows))[:, None]
        table = position.to(tl.int64)[:, None] * HALF + column
        cos = tl.where(known, tl.load(cos_ptr + table, mask=inside & known, other=0.0), float("nan"))
        return cos, tl.load(sin_ptr + table, mask=inside & known, other=0.0)


@triton.jit
def move(
    packed_ptr, part_ptr, cos_ptr, sin_ptr, position_ptr, packed_b, packed_t, part_b, part_t, part_h, position_b, position_t,
    first_token, first_head, tokens, steps, rows, heads, UNIT: tl.constexpr, K: tl.constexpr, HALF: tl.constexpr,
    ROTATE: tl.constexpr, BACKWARD: tl.constexpr, TOKENS: tl.constexpr, HEADS: tl.constexpr, HALF_COLUMNS: tl.constexpr,
    REST_COLUMNS: tl.constexpr,
):  # fmt: skip
    """TOKENS x HEADS rows of one of q, k, v: packed -> part, or with BACKWARD part -> packed. Only q and k are rotated."""
    row = tl.arange(0, TOKENS * HEADS)
    token, head = first_token + row // HEADS, first_head + row % HEADS
    real = (token < tokens) & (head < heads)
    here = real[:, None]
    batch, step = (token // steps).to(tl.int64), (token % steps).to(tl.int64)
    packed_ptr += ((batch * packed_b + step * packed_t) * UNIT + head * K)[:, None]
    part_ptr += ((batch * part_b + step * part_t + head.to(tl.int64) * part_h) * UNIT)[:, None]
    source = part_ptr if BACKWARD else packed_ptr
    target = packed_ptr if BACKWARD else part_ptr
    kind = target.dtype.element_ty
    column = tl.arange(0, HALF_COLUMNS)[None, :]
    inside = here & (column < HALF)
    a = tl.load(source + column, mask=inside, other=0.0)
    b = tl.load(source + column + HALF, mask=inside, other=0.0)
    if ROTATE:
        cos, sin = angles(
            cos_ptr, sin_ptr, position_ptr, position_b, position_t, batch, step, rows, real, column, inside, HALF
        )
        if BACKWARD:
            sin = -sin
        a, b = a.to(tl.float32), b.to(tl.float32)
        a, b = (a * cos - b * sin).to(kind), (b * cos + a * sin).to(kind)
    tl.store(target + column, a, mask=inside)
    tl.store(target + column + HALF, b, mask=inside)
    if 2 * HALF < K:
        column = 2 * HALF + tl.arange(0, REST_COLUMNS)[None, :]
        inside = here & (column < K)
        tl.store(target + column, tl.load(source + column, mask=inside, other=0.0), mask=inside)


def tile(heads: int, half: int) -> tuple[int, int, int]:
    """(tokens, heads, columns of a half) of a tile of about ``TILE`` pairs."""
    columns = next_power_of_2(half)
    block = min(next_power_of_2(heads), max(1, TILE // columns))
    return max(1, TILE // (columns * block)), block, columns


def position_strides(positions: Tensor | None) -> tuple[int, int]:
    """Strides over batch and time, in elements."""
    if positions is None:
        return 0, 0
    return (0 if positions.ndim == 1 else positions.stride(0)), positions.stride(-1)


def unit_stride(x: Tensor) -> Tensor:
    """``x`` with unit stride along its last dimension: itself, or one copy."""
    return x if x.stride(-1) == 1 else x.contiguous()


def split(packed: Tensor, heads: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Views [B, T, H, K], [B, T, G, K], [B, T, G, K]."""
    width = packed.shape[-1] // (heads + 2 * kv_heads)
    q, k, v = torch.split(packed, [heads * width, kv_heads * width, kv_heads * width], dim=-1)
    return q.unflatten(-1, (heads, width)), k.unflatten(-1, (kv_heads, width)), v.unflatten(-1, (kv_heads, width))


def check_rotation(
    op: str, qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, kv_heads: int, positions: Tensor | None
) -> None:
    """Raise the ValueError of the first bad argument of a rotation, if there is one."""
    require_input(op, "qkv", qkv)
    require(qkv.ndim == 3, op, "qkv", "shape [B, T, (heads + 2 * kv_heads) * K]", tuple(qkv.shape))
    require(heads >= 1, op, "heads", "at least 1", heads)
    fine = kv_heads >= 1 and heads % kv_heads == 0
    require(fine, op, "kv_heads", f"a divisor of heads {heads}", kv_heads)
    parts = heads + 2 * kv_heads
    require(qkv.shape[-1] % parts == 0, op, "qkv", f"a last dimension divisible by {parts} heads", tuple(qkv.shape))
    width = qkv.shape[-1] // parts
    least = qkv.shape[1] if positions is None else 1
    for name, table in (("cos", cos), ("sin", sin)):
        require(table.dtype == torch.float32, op, name, "a float32 tensor", table.dtype)
        require(table.device == qkv.device, op, name, f"a tensor on {qkv.device}", table.device)
        fine = table.ndim == 2 and table.shape[0] >= least and 1 <= table.shape[1] <= width // 2
        wanted = f"shape [at least {least} positions, 1 to {width // 2} angles]"
        require(fine, op, name, wanted, tuple(table.shape))
    require(cos.shape == sin.shape, op, "sin", f"the shape of cos, {tuple(cos.shape)}", tuple(sin.shape))
    if positions is not None:
        require(positions.dtype == torch.int64, op, "positions", "an int64 tensor", positions.dtype)
        require(positions.device == qkv.device, op, "positions", f"a tensor on {qkv.device}", positions.device)
        shapes = (qkv.shape[1:2], qkv.shape[:2])
        wanted = f"shape {tuple(shapes[0])} or {tuple(shapes[1])}"
        require(positions.shape in shapes, op, "positions", wanted, tuple(positions.shape))
