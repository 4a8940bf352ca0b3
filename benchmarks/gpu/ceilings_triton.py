"""Triton kernels behind ceilings.py: special-function rate, launch cost, group barrier through L2."""
# mypy: ignore-errors

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl

INTERPRET = os.environ.get("TRITON_INTERPRET", "0") == "1"
SPIN_LIMIT = 1 << 16  # some 50 ms: a barrier that is never completed ends in an error, not in a hang


@triton.jit
def _tanh(x, EXACT: tl.constexpr):
    if EXACT:  # the interpreter has no inline assembly
        y = 2.0 / (1.0 + tl.exp2(x * -2.8853900817779268)) - 1.0
    else:
        y = tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
    return y


@triton.jit(do_not_specialize=["repeats"])
def special_kernel(x, y, repeats, TANH: tl.constexpr, BLOCK: tl.constexpr, EXACT: tl.constexpr):
    """y = f applied ``repeats`` times, f(x) = tanh(1.5 x) or 2^-x. Both contract towards a fixed point: errors do not grow."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at)
    for _ in range(repeats):
        if TANH:
            value = _tanh(1.5 * value, EXACT)
        else:
            value = tl.exp2(-value)
    tl.store(y + at, value)


def special(x, repeats: int, tanh: bool) -> torch.Tensor:
    """x: [n] fp32, n a multiple of 1024 -> [n]."""
    y = torch.full_like(x, float("nan"))
    special_into(x, y, repeats, tanh)
    return y


def special_into(x, y, repeats: int, tanh: bool) -> None:
    """As :func:`special`, into ``y``."""
    special_kernel[(x.numel() // 1024,)](x, y, repeats, TANH=tanh, BLOCK=1024, EXACT=INTERPRET, num_warps=4)


@triton.jit
def count_kernel(counter):
    """Adds one: the smallest kernel whose launches can be counted afterwards."""
    tl.store(counter, tl.load(counter) + 1)


@triton.jit(do_not_specialize=["steps"])
def group_barrier_kernel(counters, slots, wrong, steps, SIZE: tl.constexpr, LIMIT: tl.constexpr):
    """``steps`` rounds of: write my slot, arrive on the group's counter, wait for all, read the slot of my neighbour.

    counters: [groups] int32, zero at launch and 128 bytes apart; slots: [programs] int32; wrong: [programs] int32, counts
    stale reads and broken waits.
    """
    me = tl.program_id(0)
    group = me // SIZE
    neighbour = group * SIZE + (me + 1) % SIZE
    bad = 0
    for step in range(steps):
        tl.store(slots + me, step + 1)
        tl.debug_barrier()  # the store of every warp comes before the arrival
        tl.atomic_add(counters + group * 32, 1, sem="release")
        target = (step + 1) * SIZE
        seen = tl.atomic_add(counters + group * 32, 0, sem="acquire")
        spins = 0
        while (seen < target) & (spins < LIMIT):
            seen = tl.atomic_add(counters + group * 32, 0, sem="acquire")
            spins += 1
        tl.debug_barrier()  # nobody reads before the wait is over
        value = tl.load(slots + neighbour, cache_modifier=".cg")  # past L1, which is not coherent
        bad += tl.where((value < step + 1) | (seen < target), 1, 0)
    tl.store(wrong + me, bad)


def group_barrier(groups: int, size: int, steps: int, counters, slots, wrong) -> None:
    """One cooperative launch of ``groups * size`` programs; the counters are cleared before it."""
    counters.zero_()
    options = {} if INTERPRET else {"launch_cooperative_grid": True}
    group_barrier_kernel[(groups * size,)](
        counters, slots, wrong, steps, SIZE=size, LIMIT=SPIN_LIMIT, num_warps=4, **options
    )
