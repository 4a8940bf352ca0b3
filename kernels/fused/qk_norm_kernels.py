"""The kernels of :mod:`algoprog.kernels.fused.qk_norm_rope`: heads of q and k normed and rotated, and their gradients.

A tile is TOKENS x HEADS rows, a row one head of one token in three parts: the two halves that are rotated with each other,
and what lies behind them (REST_COLUMNS is 1 and all of it masked where there is nothing).
"""

from __future__ import annotations

import triton
import triton.language as tl

from algoprog.kernels.fused.rotation import angles, move


@triton.jit
def _read(source, here, K: tl.constexpr, HALF: tl.constexpr, HALF_COLUMNS: tl.constexpr, REST_COLUMNS: tl.constexpr):
    """The two rotated halves of rows, and what lies behind them, in fp32."""
    column, rest = tl.arange(0, HALF_COLUMNS)[None, :], 2 * HALF + tl.arange(0, REST_COLUMNS)[None, :]
    a = tl.load(source + column, mask=here & (column < HALF), other=0.0).to(tl.float32)
    b = tl.load(source + HALF + column, mask=here & (column < HALF), other=0.0).to(tl.float32)
    c = tl.load(source + rest, mask=here & (rest < K), other=0.0).to(tl.float32)
    return a, b, c


@triton.jit
def _write(
    target, a, b, c, here, K: tl.constexpr, HALF: tl.constexpr, HALF_COLUMNS: tl.constexpr, REST_COLUMNS: tl.constexpr
):
    column, rest = tl.arange(0, HALF_COLUMNS)[None, :], 2 * HALF + tl.arange(0, REST_COLUMNS)[None, :]
    kind = target.dtype.element_ty
    tl.store(target + column, a.to(kind), mask=here & (column < HALF))
    tl.store(target + HALF + column, b.to(kind), mask=here & (column < HALF))
    tl.store(target + rest, c.to(kind), mask=here & (rest < K))


@triton.jit
def _mean(a, b, c, K: tl.constexpr):
    """Mean over the channels of a head, [rows, 1]."""
    return ((tl.sum(a, 1) + tl.sum(b, 1) + tl.sum(c, 1)) / K)[:, None]


@triton.jit
def _gain(weight_ptr, K: tl.constexpr, HALF: tl.constexpr, HALF_COLUMNS: tl.constexpr, REST_COLUMNS: tl.constexpr):
    """The gains of a head as one row of each part."""
    everywhere = tl.full([1, 1], True, tl.int1)
    return _read(weight_ptr, everywhere, K, HALF, HALF_COLUMNS, REST_COLUMNS)


@triton.jit
def _norm_and_rotate(
    packed_ptr, weight_ptr, out_ptr, cos_ptr, sin_ptr, position_ptr, packed_b, packed_t, position_b, position_t, first_token,
    first_head, tokens, steps, rows, heads, UNIT: tl.constexpr, K: tl.constexpr, HALF: tl.constexpr, EPS: tl.constexpr,
    TOKENS: tl.constexpr, HEADS: tl.constexpr, HALF_COLUMNS: tl.constexpr, REST_COLUMNS: tl.constexpr,
):  # fmt: skip
    """TOKENS x HEADS rows of q or of k: packed -> out, which is contiguous."""
    row = tl.arange(0, TOKENS * HEADS)
    token, head = first_token + row // HEADS, first_head + row % HEADS
    real = (token < tokens) & (head < heads)
    here = real[:, None]
    batch, step = (token // steps).to(tl.int64), (token % steps).to(tl.int64)
    source = packed_ptr + ((batch * packed_b + step * packed_t) * UNIT + head * K)[:, None]
    a, b, c = _read(source, here, K, HALF, HALF_COLUMNS, REST_COLUMNS)
    rstd = tl.div_rn(1.0, tl.sqrt_rn(_mean(a * a, b * b, c * c, K) + EPS))
    wa, wb, wc = _gain(weight_ptr, K, HALF, HALF_COLUMNS, REST_COLUMNS)
    a, b, c = a * rstd * wa, b * rstd * wb, c * rstd * wc
    column = tl.arange(0, HALF_COLUMNS)[None, :]
    cos, sin = angles(cos_ptr, sin_ptr, position_ptr, position_b, position_t, batch, step, rows, real, column,
                      here & (column < HALF), HALF)  # fmt: skip
    target = out_ptr + ((token.to(tl.int64) * heads + head) * K)[:, None]
    _write(target, a * cos - b * sin, b * cos + a * sin, c, here, K, HALF, HALF_COLUMNS, REST_COLUMNS)


@triton.jit(
    do_not_specialize=["packed_b", "packed_t", "v_b", "v_t", "position_b", "position_t", "tokens", "steps", "rows"]
)
def norm_and_rotate(
    packed_ptr, q_weight_ptr, k_weight_ptr, q_ptr, k_ptr, v_ptr, cos_ptr, sin_ptr, position_ptr, packed_b, packed_t, v_b,
    v_t, position_b, position_t, tokens, steps, rows, UNIT: tl.constexpr, H: tl.constexpr, G: tl.constexpr,
    K: tl.constexpr, HALF: tl.constexpr, EPS: tl.constexpr, TOKENS: tl.constexpr, HEADS: tl.constexpr,
    HALF_COLUMNS: tl.constexpr, REST_COLUMNS: tl.constexpr,
):  # fmt: skip
    """Axis 0 of the grid is tiles of tokens, axis 1 blocks of heads of q, then of k, then of v.

    Strides of the packed projection and of v are in units of UNIT elements.
    """
    first_token = tl.program_id(0) * TOKENS
    block = tl.program_id(1)
    Q_BLOCKS: tl.constexpr = (H + HEADS - 1) // HEADS
    K_BLOCKS: tl.constexpr = (G + HEADS - 1) // HEADS
    if block < Q_BLOCKS:
        _norm_and_rotate(packed_ptr, q_weight_ptr, q_ptr, cos_ptr, sin_ptr, position_ptr, packed_b, packed_t, position_b,
                         position_t, first_token, block * HEADS, tokens, steps, rows, H, UNIT, K, HALF, EPS, TOKENS, HEADS,
                         HALF_COLUMNS, REST_COLUMNS)  # fmt: skip
    elif block < Q_BLOCKS + K_BLOCKS:
        _norm_and_rotate(packed_ptr + H * K, k_weight_ptr, k_ptr, cos_ptr, sin_ptr, position_ptr, packed_b, packed_t,
                         position_b, position_t, first_token, (block - Q_BLOCKS) * HEADS, tokens, steps, rows, G, UNIT, K,
                         HALF, EPS, TOKENS, HEADS, HALF_COLUMNS, REST_COLUMNS)  # fmt: skip
    else:
        move(packed_ptr + (H + G) * K, v_ptr, cos_ptr, sin_ptr, position_ptr, packed_b, packed_t, v_b, v_t, K // UNIT,
             position_b, position_t, first_token, (block - Q_BLOCKS - K_BLOCKS) * HEADS, tokens, steps, rows, G, UNIT, K, HALF,
             False, False, TOKENS, HEADS, HALF_COLUMNS, REST_COLUMNS)  # fmt: skip


@triton.jit
def _rotate_back(
    packed_ptr, weight_ptr, dy_ptr, dpacked_ptr, partial_ptr, cos_ptr, sin_ptr, position_ptr, packed_b, packed_t, dy_b, dy_t,
    dy_h, dpacked_b, dpacked_t, position_b, position_t, first_head, tokens, steps, rows, heads, UNIT: tl.constexpr,
    K: tl.constexpr, HALF: tl.constexpr, EPS: tl.constexpr, TOKENS: tl.constexpr, HEADS: tl.constexpr,
    HALF_COLUMNS: tl.constexpr, REST_COLUMNS: tl.constexpr,
):  # fmt: skip
    """HEADS heads of q or of k and every tile of tokens that is this program's: dy -> dpacked, and a sum of dweight."""
    wa, wb, wc = _gain(weight_ptr, K, HALF, HALF_COLUMNS, REST_COLUMNS)
    column = tl.arange(0, HALF_COLUMNS)[None, :]
    rest = 2 * HALF + tl.arange(0, REST_COLUMNS)
    row = tl.arange(0, TOKENS * HEADS)
    head = first_head + row % HEADS
    dwa = tl.zeros([TOKENS * HEADS, HALF_COLUMNS], tl.float32)
    dwb = tl.zeros([TOKENS * HEADS, HALF_COLUMNS], tl.float32)
    dwc = tl.zeros([TOKENS * HEADS, REST_COLUMNS], tl.float32)
    for first_token in range(tl.program_id(0) * TOKENS, tokens, tl.num_programs(0) * TOKENS):
        token = first_token + row // HEADS
        real = (token < tokens) & (head < heads)
        here = real[:, None]
        batch, step = (token // steps).to(tl.int64), (token % steps).to(tl.int64)
        source = packed_ptr + ((batch * packed_b + step * packed_t) * UNIT + head * K)[:, None]
        a, b, c = _read(source, here, K, HALF, HALF_COLUMNS, REST_COLUMNS)
        upstream = dy_ptr + ((batch * dy_b + step * dy_t + head.to(tl.int64) * dy_h) * UNIT)[:, None]
        dya, dyb, dnc = _read(upstream, here, K, HALF, HALF_COLUMNS, REST_COLUMNS)
        cos, sin = angles(cos_ptr, sin_ptr, position_ptr, position_b, position_t, batch, step, rows, real, column,
                          here & (column < HALF), HALF)  # fmt: skip
        dna, dnb = dya * cos + dyb * sin, dyb * cos - dya * sin
        rstd = tl.div_rn(1.0, tl.sqrt_rn(_mean(a * a, b * b, c * c, K) + EPS))
        a, b, c = a * rstd, b * rstd, c * rstd
        dwa += dna * a
        dwb += dnb * b
        dwc += dnc * c
        dna, dnb, dnc = dna * wa, dnb * wb, dnc * wc
        mean = _mean(dna * a, dnb * b, dnc * c, K)
        target = dpacked_ptr + ((batch * dpacked_b + step * dpacked_t) * UNIT + head * K)[:, None]
        _write(target, rstd * (dna - a * mean), rstd * (dnb - b * mean), rstd * (dnc - c * mean), here, K, HALF, HALF_COLUMNS,
               REST_COLUMNS)  # fmt: skip
    column = tl.arange(0, HALF_COLUMNS)
    tl.store(partial_ptr + column, tl.sum(dwa, 0), mask=column < HALF)
    tl.store(partial_ptr + HALF + column, tl.sum(dwb, 0), mask=column < HALF)
    tl.store(partial_ptr + rest, tl.sum(dwc, 0), mask=rest < K)


@triton.jit(
    do_not_specialize=[
        "packed_b", "packed_t", "dq_b", "dq_t", "dq_h", "dk_b", "dk_t", "dk_h", "dv_b", "dv_t", "dv_h", "dpacked_b",
        "dpacked_t", "position_b", "position_t", "tokens", "steps", "rows",
    ]
)  # fmt: skip
def rotate_back(
    packed_ptr, q_weight_ptr, k_weight_ptr, dq_ptr, dk_ptr, dv_ptr, dpacked_ptr, partial_ptr, cos_ptr, sin_ptr, position_ptr,
    packed_b, packed_t, dq_b, dq_t, dq_h, dk_b, dk_t, dk_h, dv_b, dv_t, dv_h, dpacked_b, dpacked_t, position_b, position_t,
    tokens, steps, rows, UNIT: tl.constexpr, H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, HALF: tl.constexpr,
    EPS: tl.constexpr, TOKENS: tl.constexpr, HEADS: tl.constexpr, HALF_COLUMNS: tl.constexpr, REST_COLUMNS: tl.constexpr,
):  # fmt: skip
    """As :func:`norm_and_rotate`, but programs stride over the tiles of tokens. partial: [programs, blocks of q and k, K]."""
    block = tl.program_id(1)
    Q_BLOCKS: tl.constexpr = (H + HEADS - 1) // HEADS
    K_BLOCKS: tl.constexpr = (G + HEADS - 1) // HEADS
    partial_ptr += (tl.program_id(0) * (Q_BLOCKS + K_BLOCKS) + block) * K
    if block < Q_BLOCKS:
        _rotate_back(packed_ptr, q_weight_ptr, dq_ptr, dpacked_ptr, partial_ptr, cos_ptr, sin_ptr, position_ptr, packed_b,
                     packed_t, dq_b, dq_t, dq_h, dpacked_b, dpacked_t, position_b, position_t, block * HEADS, tokens, steps,
                     rows, H, UNIT, K, HALF, EPS, TOKENS, HEADS, HALF_COLUMNS, REST_COLUMNS)  # fmt: skip
    elif block < Q_BLOCKS + K_BLOCKS:
        _rotate_back(packed_ptr + H * K, k_weight_ptr, dk_ptr, dpacked_ptr + H * K, partial_ptr, cos_ptr, sin_ptr,
                     position_ptr, packed_b, packed_t, dk_b, dk_t, dk_h, dpacked_b, dpacked_t, position_b, position_t,
                     (block - Q_BLOCKS) * HEADS, tokens, steps, rows, G, UNIT, K, HALF, EPS, TOKENS, HEADS, HALF_COLUMNS,
                     REST_COLUMNS)  # fmt: skip
    else:
        for first_token in range(tl.program_id(0) * TOKENS, tokens, tl.num_programs(0) * TOKENS):
            move(dpacked_ptr + (H + G) * K, dv_ptr, cos_ptr, sin_ptr, position_ptr, dpacked_b, dpacked_t, dv_b, dv_t, dv_h,
                 position_b, position_t, first_token, (block - Q_BLOCKS - K_BLOCKS) * HEADS, tokens, steps, rows, G, UNIT, K,
                 HALF, False, True, TOKENS, HEADS, HALF_COLUMNS, REST_COLUMNS)  # fmt: skip
