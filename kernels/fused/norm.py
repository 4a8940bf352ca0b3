"""RMSNorm and LayerNorm, plain or fused with the residual addition before them, forward and backward.

Forward, per row of width D: ``s = x (+ residual)``, ``xhat = (s - mean) * rstd``, ``y = xhat * weight (+ bias)``, with
``rstd = 1 / sqrt(mean((s - mean)^2) + eps)``; RMSNorm has mean 0 (Zhang & Sennrich 2019, eq. 4; Ba et al. 2016, eq. 4).
Backward from dy and, with a residual, the stream's own gradient dsum: ``a = weight * dy``,
``dx = dresidual = dsum + rstd * (a - mean(a) - xhat * mean(a * xhat))`` (RMSNorm without the ``mean(a)``),
``dweight = sum over rows of dy * xhat``, ``dbias = sum over rows of dy``.

Tensors: x, residual, y, s [..., D] with any strides but 1 along D (else one copy); weight, bias [D] in any kernel type;
statistics fp32 [1 or 2, N]: rstd, mean. s has the type that ``x + residual`` has in PyTorch, y has the type of s.
Bytes per element in bf16: plain 4 forward and 6 backward, with the residual 8 and 8; statistics add 4 or 8 per row.
All arithmetic is fp32 with one rounding per output. No atomics: weight gradients are partial sums per program, in fp32,
added in a fixed order.

Checked without a GPU: accuracy in the interpreter, budgets of the compiler's output for sm_80 and sm_90.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from algoprog.kernels.formulas import register_formula
from algoprog.kernels.fused import launch
from algoprog.kernels.fused.launch import (
    alignment,
    as_rows,
    ceil_div,
    on_device_of,
    require,
    require_input,
    require_shape,
    row_tile,
)

TILE = 2048
"""Elements of a tile: 16 per thread with four warps, which leaves room for the weight gradients in registers."""


@triton.jit(do_not_specialize=["x_stride", "residual_stride", "rows"])
def norm_forward(
    x_ptr, residual_ptr, weight_ptr, bias_ptr, y_ptr, sum_ptr, rstd_ptr, mean_ptr, x_stride, residual_stride, rows,
    D: tl.constexpr, EPS: tl.constexpr, UNIT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One tile of whole rows per program. Absent pointers are None: no residual, no bias, no mean (RMSNorm).

    Strides are in units of UNIT elements; outputs are contiguous.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)[None, :]
    inside = (row < rows)[:, None] & (column < D)
    s = tl.load(x_ptr + row[:, None] * x_stride * UNIT + column, mask=inside, other=0.0).to(tl.float32)
    if residual_ptr is not None:
        s += tl.load(residual_ptr + row[:, None] * residual_stride * UNIT + column, mask=inside, other=0.0).to(
            tl.float32
        )
        rounded = s.to(sum_ptr.dtype.element_ty)
        tl.store(sum_ptr + row[:, None] * D + column, rounded, mask=inside)
        s = rounded.to(tl.float32)  # the backward pass sees the rounded sum, so the norm is taken of that one
    if mean_ptr is not None:
        mean = tl.sum(s, axis=1) / D
        tl.store(mean_ptr + row, mean, mask=row < rows)
        s = tl.where(column < D, s - mean[:, None], 0.0)
    rstd = tl.div_rn(1.0, tl.sqrt_rn(tl.sum(s * s, axis=1) / D + EPS))
    tl.store(rstd_ptr + row, rstd, mask=row < rows)
    weight = tl.load(weight_ptr + column, mask=column < D, other=0.0).to(tl.float32)
    y = s * rstd[:, None] * weight
    if bias_ptr is not None:
        y += tl.load(bias_ptr + column, mask=column < D, other=0.0).to(tl.float32)
    tl.store(y_ptr + row[:, None] * D + column, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["dy_stride", "dsum_stride", "s_stride", "rows"])
def norm_backward(
    dy_ptr, dsum_ptr, s_ptr, weight_ptr, rstd_ptr, mean_ptr, dx_ptr, dweight_ptr, dbias_ptr, dy_stride, dsum_stride,
    s_stride, rows, D: tl.constexpr, UNIT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Programs stride over the tiles and keep their sums of the weight gradients in registers until the end."""
    program = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, COLUMNS)[None, :]
    weight = tl.load(weight_ptr + column, mask=column < D, other=0.0).to(tl.float32)
    dweight = tl.zeros([ROWS, COLUMNS], tl.float32)
    dbias = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(program * ROWS, rows, tl.num_programs(0) * ROWS):
        row = first + tl.arange(0, ROWS).to(tl.int64)
        inside = (row < rows)[:, None] & (column < D)
        xhat = tl.load(s_ptr + row[:, None] * s_stride * UNIT + column, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + row[:, None] * dy_stride * UNIT + column, mask=inside, other=0.0).to(tl.float32)
        rstd = tl.load(rstd_ptr + row, mask=row < rows, other=0.0)[:, None]
        if mean_ptr is not None:
            xhat -= tl.load(mean_ptr + row, mask=row < rows, other=0.0)[:, None]
            xhat = tl.where(column < D, xhat, 0.0)
        xhat *= rstd
        dweight += dy * xhat
        a = dy * weight
        dx = a - xhat * (tl.sum(a * xhat, axis=1) / D)[:, None]
        if mean_ptr is not None:
            dbias += dy
            dx -= (tl.sum(a, axis=1) / D)[:, None]
        dx *= rstd
        if dsum_ptr is not None:
            dx += tl.load(dsum_ptr + row[:, None] * dsum_stride * UNIT + column, mask=inside, other=0.0).to(tl.float32)
        tl.store(dx_ptr + row[:, None] * D + column, dx.to(dx_ptr.dtype.element_ty), mask=inside)
    partial = program * D + tl.arange(0, COLUMNS)
    real = tl.arange(0, COLUMNS) < D
    tl.store(dweight_ptr + partial, tl.sum(dweight, axis=0), mask=real)
    if dbias_ptr is not None:
        tl.store(dbias_ptr + partial, tl.sum(dbias, axis=0), mask=real)


def _launch_forward(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor | None, eps: float, center: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, s, statistics); without a residual s is empty."""
    width, rows = x.shape[-1], x.shape[:-1].numel()
    dtype = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
    y = torch.empty(x.shape, dtype=dtype, device=x.device)
    s = torch.empty_like(y) if residual is not None else y.new_empty(0)
    stats = torch.empty(2 if center else 1, rows, dtype=torch.float32, device=x.device)
    if rows:
        tile_rows, columns, warps = row_tile(width, TILE)
        flat, flat_residual = as_rows(x), None if residual is None else as_rows(residual)
        strides = flat.stride(0), 0 if flat_residual is None else flat_residual.stride(0)
        unit = alignment(*strides)
        with on_device_of(x):
            norm_forward[(ceil_div(rows, tile_rows),)](
                flat, flat_residual, weight.contiguous(), None if bias is None else bias.contiguous(), y,
                None if residual is None else s, stats[0], stats[1] if center else None,
                *(stride // unit for stride in strides), rows,
                D=width, EPS=eps, UNIT=unit, ROWS=tile_rows, COLUMNS=columns, num_warps=warps,
            )  # fmt: skip
    return y, s, stats


def _launch_backward(
    dy: Tensor, dsum: Tensor | None, s: Tensor, weight: Tensor, stats: Tensor, center: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """(dx in the type of s, dweight, dbias), the last two in fp32; dbias is empty for RMSNorm."""
    width, rows = s.shape[-1], s.shape[:-1].numel()
    tile_rows, columns, warps = row_tile(width, TILE)
    programs = min(ceil_div(rows, tile_rows), launch.PROGRAMS)
    dx = torch.empty(s.shape, dtype=s.dtype, device=s.device)
    dweight = torch.empty(programs, width, dtype=torch.float32, device=s.device)
    dbias = torch.empty(programs, width if center else 0, dtype=torch.float32, device=s.device)
    if rows:
        flat_dy, flat_s, flat_dsum = as_rows(dy), as_rows(s), None if dsum is None else as_rows(dsum)
        strides = flat_dy.stride(0), 0 if flat_dsum is None else flat_dsum.stride(0), flat_s.stride(0)
        unit = alignment(*strides)
        with on_device_of(s):
            norm_backward[(programs,)](
                flat_dy, flat_dsum, flat_s, weight.contiguous(), stats[0], stats[1] if center else None, dx, dweight,
                dbias if center else None, *(stride // unit for stride in strides), rows,
                D=width, UNIT=unit, ROWS=tile_rows, COLUMNS=columns, num_warps=warps,
            )  # fmt: skip
    return dx, dweight.sum(0), dbias.sum(0)


@torch.library.custom_op("algoprog::norm", mutates_args=())
def _norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, center: bool) -> tuple[Tensor, Tensor]:
    y, _, stats = _launch_forward(x, None, weight, bias, eps, center)
    return y, stats


@torch.library.custom_op("algoprog::add_norm", mutates_args=())
def _add_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor | None, eps: float, center: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return _launch_forward(x, residual, weight, bias, eps, center)


@torch.library.custom_op("algoprog::norm_backward", mutates_args=())
def _norm_backward(
    dy: Tensor, dsum: Tensor | None, s: Tensor, weight: Tensor, stats: Tensor, center: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return _launch_backward(dy, dsum, s, weight, stats, center)


@_norm.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, center: bool) -> tuple[Tensor, Tensor]:
    stats = x.new_empty((2 if center else 1, x.shape[:-1].numel()), dtype=torch.float32)
    return x.new_empty(x.shape), stats


@_add_norm.register_fake
def _(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor | None, eps: float, center: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.promote_types(x.dtype, residual.dtype)
    stats = x.new_empty((2 if center else 1, x.shape[:-1].numel()), dtype=torch.float32)
    return x.new_empty(x.shape, dtype=dtype), x.new_empty(x.shape, dtype=dtype), stats


@_norm_backward.register_fake
def _(
    dy: Tensor, dsum: Tensor | None, s: Tensor, weight: Tensor, stats: Tensor, center: bool
) -> tuple[Tensor, Tensor, Tensor]:
    width = s.shape[-1]
    dbias = s.new_empty(width if center else 0, dtype=torch.float32)
    return s.new_empty(s.shape), s.new_empty(width, dtype=torch.float32), dbias


def _save(ctx, inputs, output) -> None:
    x, weight, bias, _, ctx.center = inputs
    ctx.save_for_backward(x, weight, output[1])
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx, dy, _):
    x, weight, stats = ctx.saved_tensors
    dx, dweight, dbias = torch.ops.algoprog.norm_backward(dy, None, x, weight, stats, ctx.center)
    return dx, dweight.to(weight.dtype), None if ctx.bias_dtype is None else dbias.to(ctx.bias_dtype), None, None


def _save_add(ctx, inputs, output) -> None:
    x, residual, weight, bias, _, ctx.center = inputs
    ctx.save_for_backward(output[1], weight, output[2])
    ctx.dtypes = x.dtype, residual.dtype, None if bias is None else bias.dtype
    ctx.set_materialize_grads(False)  # no reading of zeros when only one of y and s was used
    ctx.mark_non_differentiable(output[2])


def _differentiate_add(ctx, dy, dsum, _):
    s, weight, stats = ctx.saved_tensors
    x_dtype, residual_dtype, bias_dtype = ctx.dtypes
    if dy is None:
        return (
            None if dsum is None else dsum.to(x_dtype),
            None if dsum is None else dsum.to(residual_dtype),
            *[None] * 4,
        )
    ds, dweight, dbias = torch.ops.algoprog.norm_backward(dy, dsum, s, weight, stats, ctx.center)
    dbias = None if bias_dtype is None else dbias.to(bias_dtype)
    return ds.to(x_dtype), ds.to(residual_dtype), dweight.to(weight.dtype), dbias, None, None


_norm.register_autograd(_differentiate, setup_context=_save)
_add_norm.register_autograd(_differentiate_add, setup_context=_save_add)
for _op in ("norm", "add_norm", "norm_backward"):
    register_formula(_op)


def _check(op: str, x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor | None, eps: float) -> None:
    require_input(op, "x", x)
    require(x.ndim >= 1, op, "x", "at least one dimension", "a scalar")
    width = x.shape[-1]
    require(1 <= width <= launch.MAX_WIDTH, op, "x", f"a last dimension of 1 to {launch.MAX_WIDTH}", tuple(x.shape))
    if residual is not None:
        require_input(op, "residual", residual, like=x)
        require_shape(op, "residual", residual, x.shape)
    require_input(op, "weight", weight, like=x)
    require_shape(op, "weight", weight, (width,))
    if bias is not None:
        require_input(op, "bias", bias, like=x)
        require_shape(op, "bias", bias, (width,))
    require(eps > 0, op, "eps", "a number above 0", eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As :func:`algoprog.kernels.reference.rms_norm`. Raises ValueError on a bad argument."""
    _check("rms_norm", x, None, weight, None, eps)
    y: Tensor = torch.ops.algoprog.norm(x, weight, None, eps, False)[0]
    return y


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """As :func:`algoprog.kernels.reference.add_rms_norm`. Raises ValueError on a bad argument."""
    _check("add_rms_norm", x, residual, weight, None, eps)
    y, s, _ = torch.ops.algoprog.add_norm(x, residual, weight, None, eps, False)
    return y, s


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """As :func:`algoprog.kernels.reference.layer_norm`. Raises ValueError on a bad argument."""
    _check("layer_norm", x, None, weight, bias, eps)
    y: Tensor = torch.ops.algoprog.norm(x, weight, bias, eps, True)[0]
    return y


def add_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """As :func:`algoprog.kernels.reference.add_layer_norm`. Raises ValueError on a bad argument."""
    _check("add_layer_norm", x, residual, weight, bias, eps)
    y, s, _ = torch.ops.algoprog.add_norm(x, residual, weight, bias, eps, True)
    return y, s
