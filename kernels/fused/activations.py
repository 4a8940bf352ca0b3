"""Activations of the feed-forward block: SwiGLU and GLU over the packed [gate | up] projection, GELU and ReLU.

``swiglu = silu(gate) * up`` and ``glu = sigmoid(gate) * up`` (Shazeer 2020, eq. 6; Dauphin et al. 2017, eq. 1);
``gelu = x * Phi(x)`` with the exact normal distribution function (Hendrycks & Gimpel 2016, eq. 1). With s = sigmoid(gate):
SwiGLU has ``dgate = dh * up * s * (1 + gate * (1 - s))`` and ``dup = dh * gate * s``; GLU ``dgate = dh * up * s * (1 - s)``
and ``dup = dh * s``.

Tensors: packed [..., 2F] and h [..., F], rows with any stride and unit stride along F (else one copy); plain activations
are flat. Only the input is saved; the backward pass computes the sigmoid or Phi again and writes dgate and dup into one
fresh packed buffer. Bytes per hidden element in bf16: gated 6 forward, 10 backward; plain 4 and 6. Rows of odd F are
aligned to one element only, which makes their loads narrow. Arithmetic is fp32 with one rounding per output; |x| up to the
largest fp32 neither overflows nor turns to NaN.

Checked without a GPU: accuracy in the interpreter, budgets of the compiler's output for sm_80 and sm_90.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from algoprog.kernels.formulas import register_formula
from algoprog.kernels.fused.launch import (
    alignment,
    as_rows,
    ceil_div,
    next_power_of_2,
    on_device_of,
    require,
    require_input,
)

TILE = 2048
MAX_COLUMNS = 1024
INVERSE_SQRT_2 = tl.constexpr(0.7071067811865476)
INVERSE_SQRT_2PI = tl.constexpr(0.3989422804014327)


@triton.jit(do_not_specialize=["packed_stride", "rows"])
def gate_forward(
    packed_ptr, h_ptr, packed_stride, rows,
    F: tl.constexpr, KIND: tl.constexpr, UNIT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One tile of h per program. KIND: "swiglu" or "glu". Strides are in units of UNIT elements."""
    row = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    column = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    inside = (row < rows) & (column < F)
    packed = packed_ptr + row * packed_stride * UNIT + column
    gate = tl.load(packed, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(packed + F, mask=inside, other=0.0).to(tl.float32)
    h = tl.sigmoid(gate) * up
    if KIND == "swiglu":
        h *= gate
    tl.store(h_ptr + row * F + column, h.to(h_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["dh_stride", "packed_stride", "rows"])
def gate_backward(
    dh_ptr, packed_ptr, dpacked_ptr, dh_stride, packed_stride, rows,
    F: tl.constexpr, KIND: tl.constexpr, UNIT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One tile of dgate and of dup per program."""
    row = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    column = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    inside = (row < rows) & (column < F)
    packed = packed_ptr + row * packed_stride * UNIT + column
    dh = tl.load(dh_ptr + row * dh_stride * UNIT + column, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(packed, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(packed + F, mask=inside, other=0.0).to(tl.float32)
    s = tl.sigmoid(gate)
    if KIND == "swiglu":
        dgate = dh * up * s * (1 + gate * (1 - s))
        dup = dh * gate * s
    else:
        dgate = dh * up * s * (1 - s)
        dup = dh * s
    dpacked = dpacked_ptr + row * (2 * F) + column
    tl.store(dpacked, dgate.to(dpacked_ptr.dtype.element_ty), mask=inside)
    tl.store(dpacked + F, dup.to(dpacked_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["elements"])
def plain_forward(x_ptr, y_ptr, elements, KIND: tl.constexpr, UNIT: tl.constexpr, TILE: tl.constexpr):
    """One flat tile per program. KIND: "gelu" or "relu". ``elements`` is in units of UNIT."""
    at = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    inside = at < elements.to(tl.int64) * UNIT
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if KIND == "gelu":
        y = x * 0.5 * (1 + tl.erf(x * INVERSE_SQRT_2))
    else:
        y = tl.where(x <= 0, 0.0, x)  # a maximum would hide NaN
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["elements"])
def plain_backward(dy_ptr, x_ptr, dx_ptr, elements, KIND: tl.constexpr, UNIT: tl.constexpr, TILE: tl.constexpr):
    """One flat tile per program."""
    at = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    inside = at < elements.to(tl.int64) * UNIT
    dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if KIND == "gelu":
        density = tl.exp(-0.5 * x * x) * INVERSE_SQRT_2PI
        dx = dy * (0.5 * (1 + tl.erf(x * INVERSE_SQRT_2)) + x * density)
    else:
        dx = tl.where(x <= 0, 0.0, dy)
    tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)


def tile(hidden: int) -> tuple[int, int]:
    """(rows, columns) of a tile of the gated kernels."""
    columns = min(MAX_COLUMNS, max(8, next_power_of_2(hidden)))
    return TILE // columns, columns


@torch.library.custom_op("algoprog::gate", mutates_args=())
def _gate(packed: Tensor, kind: str) -> Tensor:
    rows, hidden = packed.shape[:-1].numel(), packed.shape[-1] // 2
    h = torch.empty((*packed.shape[:-1], hidden), dtype=packed.dtype, device=packed.device)
    if h.numel():
        tile_rows, columns = tile(hidden)
        flat = as_rows(packed)
        unit = alignment(flat.stride(0))
        with on_device_of(packed):
            gate_forward[(ceil_div(rows, tile_rows), ceil_div(hidden, columns))](
                flat, h, flat.stride(0) // unit, rows,
                F=hidden, KIND=kind, UNIT=unit, ROWS=tile_rows, COLUMNS=columns, num_warps=4,
            )  # fmt: skip
    return h


@torch.library.custom_op("algoprog::gate_backward", mutates_args=())
def _gate_backward(dh: Tensor, packed: Tensor, kind: str) -> Tensor:
    rows, hidden = packed.shape[:-1].numel(), packed.shape[-1] // 2
    dpacked = torch.empty(packed.shape, dtype=packed.dtype, device=packed.device)
    if dpacked.numel():
        tile_rows, columns = tile(hidden)
        flat, flat_dh = as_rows(packed), as_rows(dh)
        unit = alignment(flat.stride(0), flat_dh.stride(0))
        with on_device_of(packed):
            gate_backward[(ceil_div(rows, tile_rows), ceil_div(hidden, columns))](
                flat_dh, flat, dpacked, flat_dh.stride(0) // unit, flat.stride(0) // unit, rows,
                F=hidden, KIND=kind, UNIT=unit, ROWS=tile_rows, COLUMNS=columns, num_warps=4,
            )  # fmt: skip
    return dpacked


@torch.library.custom_op("algoprog::activate", mutates_args=())
def _activate(x: Tensor, kind: str) -> Tensor:
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel():
        unit = alignment(x.numel())
        with on_device_of(x):
            plain_forward[(ceil_div(x.numel(), TILE),)](
                x.contiguous(), y, x.numel() // unit, KIND=kind, UNIT=unit, TILE=TILE, num_warps=4
            )
    return y


@torch.library.custom_op("algoprog::activate_backward", mutates_args=())
def _activate_backward(dy: Tensor, x: Tensor, kind: str) -> Tensor:
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel():
        unit = alignment(x.numel())
        with on_device_of(x):
            plain_backward[(ceil_div(x.numel(), TILE),)](
                dy.contiguous(), x.contiguous(), dx, x.numel() // unit, KIND=kind, UNIT=unit, TILE=TILE, num_warps=4
            )
    return dx


@_gate.register_fake
def _(packed: Tensor, kind: str) -> Tensor:
    return packed.new_empty((*packed.shape[:-1], packed.shape[-1] // 2))


@_activate.register_fake
def _(x: Tensor, kind: str) -> Tensor:
    return x.new_empty(x.shape)


@_gate_backward.register_fake
@_activate_backward.register_fake
def _(dy: Tensor, x: Tensor, kind: str) -> Tensor:
    return x.new_empty(x.shape)


def _save(ctx, inputs, output) -> None:
    x, ctx.kind = inputs
    ctx.save_for_backward(x)


def _differentiate_gate(ctx, dh):
    return torch.ops.algoprog.gate_backward(dh, *ctx.saved_tensors, ctx.kind), None


def _differentiate_activate(ctx, dy):
    return torch.ops.algoprog.activate_backward(dy, *ctx.saved_tensors, ctx.kind), None


_gate.register_autograd(_differentiate_gate, setup_context=_save)
_activate.register_autograd(_differentiate_activate, setup_context=_save)
for _op in ("gate", "gate_backward", "activate", "activate_backward"):
    register_formula(_op)


def _gated(op: str, gate_up: Tensor, kind: str) -> Tensor:
    require_input(op, "gate_up", gate_up)
    require(gate_up.ndim >= 1, op, "gate_up", "at least one dimension", "a scalar")
    require(gate_up.shape[-1] % 2 == 0, op, "gate_up", "an even last dimension, [gate | up]", tuple(gate_up.shape))
    h: Tensor = torch.ops.algoprog.gate(gate_up, kind)
    return h


def _plain(op: str, x: Tensor) -> Tensor:
    require_input(op, "x", x)
    y: Tensor = torch.ops.algoprog.activate(x, op)
    return y


def swiglu(gate_up: Tensor) -> Tensor:
    """As :func:`algoprog.kernels.reference.swiglu`. Raises ValueError on a bad argument."""
    return _gated("swiglu", gate_up, "swiglu")


def gated_linear_unit(gate_up: Tensor) -> Tensor:
    """As :func:`algoprog.kernels.reference.gated_linear_unit`. Raises ValueError on a bad argument."""
    return _gated("gated_linear_unit", gate_up, "glu")


def gelu(x: Tensor) -> Tensor:
    """As :func:`algoprog.kernels.reference.gelu`. Raises ValueError on a bad argument."""
    return _plain("gelu", x)


def relu(x: Tensor) -> Tensor:
    """As :func:`algoprog.kernels.reference.relu`. Raises ValueError on a bad argument."""
    return _plain("relu", x)
