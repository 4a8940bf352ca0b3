"""Linear cross-entropy in chunks of rows whose logits stay in the L2 cache: plain matrix products and two softmax kernels.

The mathematics is that of :mod:`algoprog.kernels.fused.head_flash`. Forward, per chunk: ``z = x @ weight.T`` (2 N V D FLOPs
in all), one kernel for its log-sum-exp. Backward, per chunk: the product once more, a kernel that turns z into dz in place,
``dx = dz @ weight`` and ``dweight += dz.T @ x`` (6 N V D). dweight and dbias are summed over chunks in fp32; logits have the
type of x, as in plain PyTorch, and a bias is added to them in fp32.

Tensors as in that file; any width, any type. Memory beyond inputs and gradients: one chunk of logits, about 28 MB, of the
50 MB of L2 of an H100. Rows of the chunk start at multiples of 128 bytes whatever the vocabulary. Sums have a fixed order;
the products are those of PyTorch and repeat as well as they do.

Checked without a GPU: accuracy in the interpreter, budgets of the compiler's output for sm_80 and sm_90. The products with
low-precision operands and fp32 sums exist on GPUs only; on a CPU the operands are widened, which gives the same numbers.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from algoprog.kernels.fused.launch import ceil_div, next_power_of_2, on_device_of

CHUNK_BYTES = 28 * 10**6
CHUNK_ROWS = 64
"""Rows of a chunk are a multiple of this, for the products' sake."""
MAX_COLUMNS = 4096
LOG2E = tl.constexpr(math.log2(math.e))


@triton.jit
def chunk_loss(
    logits_ptr, bias_ptr, target_ptr, hit_ptr, lse_ptr,
    V: tl.constexpr, STRIDE: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One row per program: hit = the target's logit, NaN if there is no such target; lse = log2-sum-exp of the row.

    Rows are read to their padded ends, because a mask that is constant over 16 bytes keeps the accesses wide.
    """
    row = tl.program_id(0).to(tl.int64)
    logits = logits_ptr + row * STRIDE
    m = -float("inf")
    s = 0.0
    for start in range(0, V, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        z = tl.load(logits + column, mask=column < STRIDE, other=0.0).to(tl.float32)
        if bias_ptr is not None:
            z += tl.load(bias_ptr + column, mask=column < V, other=0.0)
        z = tl.where(column < V, z, -float("inf"))
        new = tl.maximum(m, tl.max(z, 0) * LOG2E)
        s = s * tl.exp2(m - new) + tl.sum(tl.exp2(z * LOG2E - new), 0)
        m = new
    tl.store(lse_ptr + row, m + tl.log2(s))
    target = tl.load(target_ptr + row)
    known = (target >= 0) & (target < V)
    hit = tl.load(logits + target, mask=known, other=0.0).to(tl.float32)
    if bias_ptr is not None:
        hit += tl.load(bias_ptr + target, mask=known, other=0.0)
    tl.store(hit_ptr + row, tl.where(known, hit, float("nan")))


@triton.jit
def chunk_gradient(
    logits_ptr, bias_ptr, target_ptr, g_ptr, lse_ptr,
    V: tl.constexpr, STRIDE: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Part of a row per program: logits become ``g (softmax - onehot)`` in place; the padding stays 0."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    logits = logits_ptr + row * STRIDE + column
    z = tl.load(logits, mask=column < STRIDE, other=0.0).to(tl.float32)
    if bias_ptr is not None:
        z += tl.load(bias_ptr + column, mask=column < V, other=0.0)
    own = tl.where(column == tl.load(target_ptr + row), 1.0, 0.0)
    dz = tl.load(g_ptr + row) * (tl.exp2(z * LOG2E - tl.load(lse_ptr + row)) - own)
    tl.store(logits, tl.where(column < V, dz, 0.0).to(logits_ptr.dtype.element_ty), mask=column < STRIDE)


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor) -> tuple[Tensor, Tensor]:
    """(logit of the target, log2-sum-exp of all logits), each [N] fp32; the first is NaN for targets outside [0, V)."""
    hit = torch.empty(len(x), dtype=torch.float32, device=x.device)
    lse = torch.empty_like(hit)
    workspace = _workspace(x, len(weight))
    for rows in _chunks(len(x), len(workspace)):
        logits = _logits(workspace, x[rows], weight)
        _launch_loss(logits, bias, target[rows], hit[rows], lse[rows])
    return hit, lse


def backward(
    g: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, hit: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(dx in the type of x, dweight, dbias) for upstream gradients ``g`` [N], the last two in fp32; dbias is empty without
    a bias.

    Ignored tokens come with g = 0 and lse = +inf, tokens without a valid target with g = NaN.
    """
    dx = torch.empty_like(x)
    dweight = torch.zeros(weight.shape, dtype=torch.float32, device=x.device)
    dbias = torch.zeros(0 if bias is None else len(bias), dtype=torch.float32, device=x.device)
    workspace = _workspace(x, len(weight))
    for rows in _chunks(len(x), len(workspace)):
        logits = _logits(workspace, x[rows], weight)
        _launch_gradient(logits, bias, target[rows], g[rows], lse[rows])
        torch.mm(logits, weight, out=dx[rows])
        _add_product(dweight, logits.t(), x[rows])
        if bias is not None:
            dbias += logits.sum(0, dtype=torch.float32)
    return dx, dweight, dbias


def _workspace(x: Tensor, vocab: int) -> Tensor:
    """Memory for the logits of one chunk: rows of the vocabulary, padded with zeros.

    Whole rows are read, by our kernels and by the bf16 products of CPUs, which multiply the padding by zero.
    """
    stride = ceil_div(vocab, 64) * 64
    rows = CHUNK_BYTES // (stride * x.element_size()) // CHUNK_ROWS * CHUNK_ROWS
    workspace = torch.empty(min(max(rows, CHUNK_ROWS), len(x)), stride, dtype=x.dtype, device=x.device)
    workspace[:, vocab:] = 0
    return workspace


def _chunks(rows: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, rows)) for start in range(0, rows, chunk)]


def _logits(workspace: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return torch.mm(x, weight.t(), out=workspace[: len(x), : len(weight)])


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """``total += a @ b`` with fp32 sums of products of whatever type."""
    if a.dtype == torch.float32:
        total.addmm_(a, b)
    elif a.is_cuda:
        torch.addmm(total, a, b, out_dtype=torch.float32, out=total)
    else:
        total.addmm_(a.float(), b.float())


def _geometry(logits: Tensor) -> tuple[int, int]:
    """(columns of a tile, warps)."""
    columns = min(MAX_COLUMNS, max(64, next_power_of_2(logits.shape[1])))
    return columns, max(1, columns // 512)


def _launch_loss(logits: Tensor, bias: Tensor | None, target: Tensor, hit: Tensor, lse: Tensor) -> None:
    columns, warps = _geometry(logits)
    with on_device_of(logits):
        chunk_loss[(len(logits),)](
            logits, bias, target, hit, lse,
            V=logits.shape[1], STRIDE=logits.stride(0), COLUMNS=columns, num_warps=warps,
        )  # fmt: skip


def _launch_gradient(logits: Tensor, bias: Tensor | None, target: Tensor, g: Tensor, lse: Tensor) -> None:
    columns, warps = _geometry(logits)
    with on_device_of(logits):
        chunk_gradient[(len(logits), ceil_div(logits.shape[1], columns))](
            logits, bias, target, g, lse,
            V=logits.shape[1], STRIDE=logits.stride(0), COLUMNS=columns, num_warps=warps,
        )  # fmt: skip
