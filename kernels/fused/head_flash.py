"""Linear cross-entropy whose logits never reach memory: tiles of ``x @ weight.T + bias`` are computed again where needed.

With logits z, softmax p and upstream gradient g per token: ``loss = logsumexp(z) - z[target]``,
``dz = g (p - onehot(target))``, ``dx = dz @ weight``, ``dweight = dz.T @ x``, ``dbias = dz.sum(0)``. The method is that of
flash attention (Dao et al. 2022, section 3.1) and of Cut Cross-Entropy (Wijmans et al. 2024, section 4), without the
latter's gradient filter: nothing is skipped.

    forward   tile of tokens x slice of the vocabulary -> partial log2-sum-exp             2 N V D FLOPs
    dx        the same grid, weights streamed -> partial dx in fp32                        4 N V D
    dweight   one program per tile of the vocabulary, tokens streamed, its sum in registers 4 N V D

Tensors: x [N, D] and weight [V, D] contiguous and of one type, bias [V] fp32 or None, target [N] int64; results fp32.
Memory beyond inputs and gradients: at most 16 N D fp32 partial sums. No atomics; all sums have a fixed order.

Few instructions per logit, since at small D they and exp2 decide the time and not the products:
    * the vocabulary's tail is a tile of its own and ignored tokens have lse = +inf, so no mask is evaluated per logit;
    * log2(e) rides on the multiply-add that subtracts lse, ``exp2(z * log2(e) - lse)``;
    * dweight takes |g| into the exponent and the sign of g into x, which is an exact flip;
    * the target's own term leaves the loops. It must not simply be subtracted at the end: for a well predicted token
      p - 1 is small against the rounding of p, which the product with the weights has seen. So the rounded p of the target
      is computed once more, from a logit with the same bits, and taken out, and p - 1 = expm1(-loss) put in its place.

Checked without a GPU: accuracy in the interpreter, budgets of the compiler's output for sm_80 and sm_90. Compiled for fp32,
the tiles spill; :mod:`algoprog.kernels.fused.linear_cross_entropy` sends fp32 elsewhere.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from algoprog.kernels.fused import launch
from algoprog.kernels.fused.launch import ceil_div, next_power_of_2, on_device_of

LOG2E = tl.constexpr(math.log2(math.e))
LN2 = tl.constexpr(math.log(2))

TILES = {
    32: ((128, 128, 4, 2), (128, 64, 4, 2), (64, 128, 4, 2)),
    64: ((128, 128, 4, 2), (128, 64, 4, 2), (64, 128, 4, 2)),
    128: ((128, 128, 8, 2), (128, 128, 8, 2), (128, 128, 8, 2)),
    256: ((128, 128, 8, 2), (128, 64, 8, 2), (64, 128, 8, 2)),
}
"""Padded width -> (tokens, vocabulary, warps, stages) of forward, dx and dweight on Hopper and later: the fewest instructions
per logit of a sweep among tiles that do not spill. Not timed yet."""

AMPERE_TILES = {32: TILES[32], 64: ((64, 128, 4, 2), (64, 64, 4, 2), (64, 128, 4, 2))}
"""The same for compute capability 8, whose products take their operands from registers: wider tiles spill kilobytes."""

BIAS_TOKENS = 32
"""Tokens of a dweight tile that also sums the gradient of a bias, for which it keeps p in two types."""


@triton.jit
def _dot(a, b, acc, UPCAST: tl.constexpr):
    if UPCAST:  # the interpreter multiplies the bit patterns of bf16 operands
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision="ieee")


@triton.jit
def _online(m, s, z):
    """One step of a running log2-sum-exp ``m + log2(s)`` over the columns of z."""
    new = tl.maximum(m, tl.max(z, 1) * LOG2E)
    s = s * tl.exp2(m - new) + tl.sum(tl.exp2(z * LOG2E - new[:, None]), 1)
    return new, s


@triton.jit
def _slice(FULL: tl.constexpr):
    """This program's full tiles of the vocabulary. The number of slices is a launch dimension, no constant."""
    per = tl.cdiv(FULL, tl.num_programs(1))
    first = tl.program_id(1) * per
    return first, tl.minimum(first + per, FULL)


@triton.jit(do_not_specialize=["N"])
def head_forward(
    x_ptr, weight_ptr, bias_ptr, target_ptr, part_ptr, hit_ptr, N,
    V: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BM: tl.constexpr, BV: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """part[s, n] = log2-sum-exp of token n over slice s; hit[n] = its target's logit, NaN if there is no such target."""
    row = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    column = tl.arange(0, DP)
    word = tl.arange(0, BV)
    rows = row < N
    inside = rows[:, None] & (column < D)[None, :]
    x = tl.load(x_ptr + row[:, None] * D + column[None, :], mask=inside, other=0.0)
    FULL: tl.constexpr = V // BV
    first, last = _slice(FULL)
    m = tl.full((BM,), -float("inf"), tl.float32)
    s = tl.zeros((BM,), tl.float32)
    weights = weight_ptr + (first * BV + word)[None, :].to(tl.int64) * D + column[:, None]
    for tile in range(first, last):
        z = _dot(x, tl.load(weights, mask=(column < D)[:, None], other=0.0), None, UPCAST)
        if bias_ptr is not None:
            z += tl.load(bias_ptr + tile * BV + word)[None, :]
        m, s = _online(m, s, z)
        weights += BV * D
    if V % BV != 0:
        if tl.program_id(1) == tl.num_programs(1) - 1:
            real = FULL * BV + word < V
            weights = weight_ptr + (FULL * BV + word)[None, :].to(tl.int64) * D + column[:, None]
            z = _dot(x, tl.load(weights, mask=real[None, :] & (column < D)[:, None], other=0.0), None, UPCAST)
            if bias_ptr is not None:
                z += tl.load(bias_ptr + FULL * BV + word, mask=real, other=0.0)[None, :]
            m, s = _online(m, s, tl.where(real[None, :], z, -float("inf")))
    tl.store(part_ptr + tl.program_id(1).to(tl.int64) * N + row, m + tl.log2(s), mask=rows)
    if tl.program_id(1) == 0:
        target = tl.load(target_ptr + row, mask=rows, other=0)
        known = (target >= 0) & (target < V)
        own = tl.load(weight_ptr + target[:, None] * D + column[None, :], mask=known[:, None] & inside, other=0.0)
        z = _dot(x, tl.trans(own), None, UPCAST)  # wasteful, but its diagonal has the bits that the loops see
        hit = tl.sum(tl.where(tl.arange(0, BM)[:, None] == tl.arange(0, BM)[None, :], z, 0.0), 1)
        if bias_ptr is not None:
            hit += tl.load(bias_ptr + target, mask=known, other=0.0)
        tl.store(hit_ptr + row, tl.where(known, hit, float("nan")), mask=rows)


@triton.jit(do_not_specialize=["N"])
def head_dx(
    x_ptr, weight_ptr, bias_ptr, target_ptr, hit_ptr, lse_ptr, rest_ptr, part_ptr, N,
    V: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BM: tl.constexpr, BV: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """part[s, n] = sum over slice s of ``exp2(z log2(e) - lse[n]) weight``; slice 0 has the target's ``rest[n]`` instead."""
    row = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    column = tl.arange(0, DP)
    word = tl.arange(0, BV)
    rows = row < N
    at = row[:, None] * D + column[None, :]
    inside = rows[:, None] & (column < D)[None, :]
    x = tl.load(x_ptr + at, mask=inside, other=0.0)
    lse = tl.load(lse_ptr + row, mask=rows, other=float("inf"))[:, None]
    FULL: tl.constexpr = V // BV
    first, last = _slice(FULL)
    acc = tl.zeros((BM, DP), tl.float32)
    weights = weight_ptr + (first * BV + word)[:, None].to(tl.int64) * D + column[None, :]
    for tile in range(first, last):
        weight = tl.load(weights, mask=(column < D)[None, :], other=0.0)
        weights += BV * D
        z = _dot(x, tl.trans(weight), None, UPCAST)
        if bias_ptr is not None:
            z += tl.load(bias_ptr + tile * BV + word)[None, :]
        acc = _dot(tl.exp2(z * LOG2E - lse).to(x.dtype), weight, acc, UPCAST)
    if V % BV != 0:
        if tl.program_id(1) == tl.num_programs(1) - 1:
            real = FULL * BV + word < V
            weights = weight_ptr + (FULL * BV + word)[:, None].to(tl.int64) * D + column[None, :]
            weight = tl.load(weights, mask=real[:, None] & (column < D)[None, :], other=0.0)
            z = _dot(x, tl.trans(weight), None, UPCAST)
            if bias_ptr is not None:
                z += tl.load(bias_ptr + FULL * BV + word, mask=real, other=0.0)[None, :]
            p = tl.where(real[None, :], tl.exp2(z * LOG2E - lse), 0.0)
            acc = _dot(p.to(x.dtype), weight, acc, UPCAST)
    if tl.program_id(1) == 0:
        target = tl.load(target_ptr + row, mask=rows, other=-1)
        known = (target >= 0) & (target < V)
        own = tl.load(weight_ptr + target[:, None] * D + column[None, :], mask=known[:, None] & inside, other=0.0)
        p = tl.exp2(tl.load(hit_ptr + row, mask=rows, other=0.0) * LOG2E - tl.load(lse_ptr + row, mask=rows, other=0.0))
        rest = tl.load(rest_ptr + row, mask=rows, other=0.0) - p.to(x.dtype).to(tl.float32)
        acc += rest[:, None] * own.to(tl.float32)
    tl.store(part_ptr + tl.program_id(1).to(tl.int64) * N * D + at, acc, mask=inside)


@triton.jit(do_not_specialize=["N"])
def head_dweight(
    x_ptr, weight_ptr, bias_ptr, coefficient_ptr, hit_ptr, lse_ptr, rest_ptr, target_ptr, order_ptr, segment_ptr, scale_ptr,
    dweight_ptr, dbias_ptr, N,
    V: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BM: tl.constexpr, BV: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """dweight[v] = scale * sum over tokens of ``exp2(coefficient[n] z - lse[n]) x[n]``, ``rest[n] x[n]`` at their targets.

    x carries the sign of the upstream gradient and so does the coefficient, +-log2(e); lse holds minus log2 of its size.
    order: tokens sorted by target; segment[i]: the first of them whose target lies in or after tile i of the vocabulary.
    """
    tile = tl.program_id(0)
    word = tile * BV + tl.arange(0, BV)
    column = tl.arange(0, DP)
    token = tl.arange(0, BM)
    at = word[:, None].to(tl.int64) * D + column[None, :]
    inside = (word < V)[:, None] & (column < D)[None, :]
    weight = tl.load(weight_ptr + at, mask=inside, other=0.0)
    acc = tl.zeros((BV, DP), tl.float32)
    dbias = tl.zeros((BV,), tl.float32)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + word, mask=word < V, other=0.0)[:, None]
    xs = x_ptr + token[:, None] * D + column[None, :]
    coefficients, lses = coefficient_ptr + token, lse_ptr + token
    for _ in range(0, N // BM):
        x = tl.load(xs, mask=(column < D)[None, :], other=0.0)
        z = _dot(weight, tl.trans(x), None, UPCAST)
        coefficient = tl.load(coefficients)[None, :]
        if bias_ptr is None:
            p = tl.exp2(z * coefficient - tl.load(lses)[None, :])
        else:  # the sign of g is in z and in the coefficient and cancels; the bias has none
            p = tl.exp2(z * coefficient + bias * LOG2E - tl.load(lses)[None, :])
            dbias += tl.sum(p * coefficient, 1)
        acc = _dot(p.to(x.dtype), x, acc, UPCAST)
        xs += BM * D
        coefficients += BM
        lses += BM
    left = N - (N // BM) * BM
    if left > 0:
        real = token < left
        x = tl.load(xs, mask=real[:, None] & (column < D)[None, :], other=0.0)
        coefficient = tl.load(coefficients, mask=real, other=0.0)[None, :]
        z = _dot(weight, tl.trans(x), None, UPCAST) * coefficient
        if bias_ptr is not None:
            z += bias * LOG2E
        p = tl.exp2(z - tl.load(lses, mask=real, other=float("inf"))[None, :])
        if bias_ptr is not None:
            dbias += tl.sum(p * coefficient, 1)
        acc = _dot(p.to(x.dtype), x, acc, UPCAST)
    end = tl.load(segment_ptr + tile + 1)
    for start in range(tl.load(segment_ptr + tile), end, BM):  # the tokens whose targets lie in this tile
        real = start + token < end
        n = tl.load(order_ptr + start + token, mask=real, other=0)
        target = tl.load(target_ptr + n, mask=real, other=-1)
        x = tl.load(x_ptr + n[:, None] * D + column[None, :], mask=real[:, None] & (column < D)[None, :], other=0.0)
        hit = tl.load(hit_ptr + n, mask=real, other=0.0)
        p = tl.exp2(hit * LOG2E - tl.load(lse_ptr + n, mask=real, other=float("inf")))
        rest = tl.load(rest_ptr + n, mask=real, other=0.0)
        own = word[:, None] == target[None, :]
        if bias_ptr is not None:
            coefficient = tl.load(coefficient_ptr + n, mask=real, other=0.0)
            dbias += tl.sum(tl.where(own, ((rest - p) * coefficient)[None, :], 0.0), 1)
        acc = _dot(tl.where(own, (-p).to(x.dtype)[None, :], 0.0), x, acc, UPCAST)
        acc = _dot(tl.where(own, rest.to(x.dtype)[None, :], 0.0), x, acc, UPCAST)
    scale = tl.load(scale_ptr)
    tl.store(dweight_ptr + at, acc * scale, mask=inside)
    if bias_ptr is not None:
        tl.store(dbias_ptr + word, dbias * (scale * LN2), mask=word < V)


def _hopper(device: torch.device) -> bool:
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (9, 0)


def max_width(device: torch.device) -> int:
    """The largest width whose tiles fit the registers of the device: 256 on Hopper and later, 64 before."""
    return max(TILES if _hopper(device) else AMPERE_TILES)


def _tiles(x: Tensor) -> tuple[int, tuple[tuple[int, int, int, int], ...]]:
    """(padded width, tiles of forward, dx and dweight)."""
    padded = max(32, next_power_of_2(x.shape[1]))
    return padded, (TILES if _hopper(x.device) else AMPERE_TILES)[padded]


def _slices(tiles: int) -> int:
    """Slices of the vocabulary, so that few tokens still make a full grid."""
    return max(1, min(16, launch.PROGRAMS // tiles))


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor) -> tuple[Tensor, Tensor]:
    """(logit of the target, log2-sum-exp of all logits), each [N] fp32; the first is NaN for targets outside [0, V)."""
    (N, D), V, (DP, table) = x.shape, weight.shape[0], _tiles(x)
    BM, BV, warps, stages = table[0]
    tiles = ceil_div(N, BM)
    part = torch.empty(_slices(tiles), N, dtype=torch.float32, device=x.device)
    hit = torch.empty(N, dtype=torch.float32, device=x.device)
    with on_device_of(x):
        head_forward[(tiles, len(part))](
            x, weight, bias, target, part, hit, N,
            V=V, D=D, DP=DP, BM=BM, BV=BV, UPCAST=launch.INTERPRETED, num_warps=warps, num_stages=stages,
        )  # fmt: skip
    largest = part.amax(0)
    return hit, largest + (part - largest).exp2().sum(0).log2()


def backward(
    g: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, hit: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, dweight, dbias) in fp32 for upstream gradients ``g`` [N]; dbias is empty without a bias.

    Ignored tokens come with g = 0, hit = 0 and lse = +inf, tokens without a valid target with g = NaN.
    """
    shift = 10.0 if x.dtype == torch.float16 else 0.0  # probabilities of 1 / V are below the normal numbers of fp16
    rest = torch.expm1(hit - lse * LN2.value) * 2**shift
    dx = _input_gradient(x, weight, bias, target, hit, lse - shift, rest) * (g / 2**shift)[:, None]
    return dx, *_weight_gradient(g, x, weight, bias, target, hit, lse - shift, rest, 2**-shift)


def _input_gradient(
    x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, hit: Tensor, lse: Tensor, rest: Tensor
) -> Tensor:
    (N, D), V, (DP, table) = x.shape, weight.shape[0], _tiles(x)
    BM, BV, warps, stages = table[1]
    tiles = ceil_div(N, BM)
    part = torch.empty(_slices(tiles), N, D, dtype=torch.float32, device=x.device)
    with on_device_of(x):
        head_dx[(tiles, len(part))](
            x, weight, bias, target, hit, lse, rest, part, N,
            V=V, D=D, DP=DP, BM=BM, BV=BV, UPCAST=launch.INTERPRETED, num_warps=warps, num_stages=stages,
        )  # fmt: skip
    return part.sum(0)


def _weight_gradient(
    g: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    hit: Tensor,
    lse: Tensor,
    rest: Tensor,
    unit: float,
) -> tuple[Tensor, Tensor]:
    (N, D), V, (DP, table) = x.shape, weight.shape[0], _tiles(x)
    BM, BV, warps, stages = table[2]
    BM = BM if bias is None else BIAS_TOKENS
    largest = g.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
    size = g.abs() / largest
    sign = torch.where(g < 0, -1.0, 1.0)
    known = target.clamp(0, V - 1)
    order = known.argsort(stable=True)
    edges = torch.arange(ceil_div(V, BV) + 1, device=x.device) * BV
    dweight = torch.empty(V, D, dtype=torch.float32, device=x.device)
    dbias = torch.empty(0 if bias is None else V, dtype=torch.float32, device=x.device)
    with on_device_of(x):
        head_dweight[(ceil_div(V, BV),)](
            x * sign[:, None].to(x.dtype), weight, bias, sign * LOG2E.value, hit, lse - size.log2(), size * rest,
            known, order, torch.searchsorted(known[order], edges), largest * unit, dweight, dbias, N,
            V=V, D=D, DP=DP, BM=BM, BV=BV, UPCAST=launch.INTERPRETED, num_warps=warps, num_stages=stages,
        )  # fmt: skip
    return dweight, dbias
