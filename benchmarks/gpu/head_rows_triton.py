"""Sketch: turns a row of logits into its gradient, in place, and returns its loss. Behind the fused and chunked heads.

Checked: against float64 in the Triton interpreter. Never run on a GPU by its authors.
"""
# mypy: ignore-errors

from __future__ import annotations

import torch
import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit(do_not_specialize=["scale"])
def rows_in_place_kernel(logits, target, loss, scale, V, STRIDE: tl.constexpr, BLOCK: tl.constexpr):
    """One program per row: loss[n] = lse - z[target]; then logits[n] <- scale (softmax - one-hot), padding <- 0.

    The row is read twice; the second read finds it in L2. Columns from V to STRIDE are padding.
    """
    n = tl.program_id(0)
    row = logits + n.to(tl.int64) * STRIDE
    at = tl.arange(0, BLOCK)
    m = tl.full((BLOCK,), -float("inf"), tl.float32)
    s = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, V, BLOCK):
        z = tl.load(row + start + at, mask=start + at < V, other=-float("inf")).to(tl.float32) * LOG2E
        new = tl.maximum(tl.maximum(m, z), -1e30)  # finite, so that a lane without a column gives 0 and not NaN
        s = s * tl.exp2(m - new) + tl.exp2(z - new)
        m = new
    top = tl.max(m, 0)
    lse2 = top + tl.log2(tl.sum(s * tl.exp2(m - top), 0))
    t = tl.load(target + n)
    tl.store(loss + n, lse2 * LN2 - tl.load(row + t).to(tl.float32))
    tl.debug_barrier()  # the logit of the target is read before any thread overwrites it
    for start in range(0, STRIDE, BLOCK):
        column = start + at
        z = tl.load(row + column, mask=column < V, other=-float("inf")).to(tl.float32) * LOG2E
        p = tl.exp2(z - lse2) - tl.where(column == t, 1.0, 0.0)
        tl.store(row + column, (p * scale).to(logits.dtype.element_ty), mask=column < STRIDE)


def rows_in_place(logits, target, scale: float, V: int):
    """logits [n, stride] become their gradient times ``scale``; returns the loss per row [n] in fp32. target in [0, V)."""
    n, stride = logits.shape
    loss = torch.empty(n, dtype=torch.float32, device=logits.device)
    rows_in_place_kernel[(n,)](
        logits, target, loss, scale, V, STRIDE=stride, BLOCK=4096 if V > 4096 else 512, num_warps=8
    )
    return loss
