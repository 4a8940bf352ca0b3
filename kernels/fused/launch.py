"""What every launcher shares: argument checks, rows of a tensor, the device of a launch, tile geometry.

Launchers check arguments first, allocate second and launch last. A check raises one ValueError that reads
``op: argument: expected ..., got ...``; nothing is launched or allocated before it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

import torch
import triton
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAX_WIDTH = 8192
PROGRAMS = 264
"""Programs of a persistent grid: two per multiprocessor of an H100. Fixed, so that sums do not depend on the device."""

INTERPRETED = bool(triton.knobs.runtime.interpret)
"""Whether kernels run in Triton's interpreter (TRITON_INTERPRET=1 when triton was imported): any device, very slowly."""


def require(fine: bool, op: str, argument: str, expected: object, got: object) -> None:
    """Raise the ValueError of a bad argument unless ``fine``."""
    if not fine:
        raise ValueError(f"{op}: {argument}: expected {expected}, got {got}")


def require_input(op: str, argument: str, x: Tensor, like: Tensor | None = None) -> None:
    """``x`` is of a type that kernels compute in, where they can run; on the device of ``like`` if there is one."""
    require(x.dtype in DTYPES, op, argument, "a float32, bfloat16 or float16 tensor", x.dtype)
    if like is not None:
        require(x.device == like.device, op, argument, f"a tensor on {like.device}", x.device)
    elif not INTERPRETED:
        require(x.device.type == "cuda", op, argument, "a CUDA tensor", x.device)


def require_shape(op: str, argument: str, x: Tensor, shape: Sequence[int]) -> None:
    """``x`` has exactly this shape."""
    require(tuple(x.shape) == tuple(shape), op, argument, f"shape {tuple(shape)}", tuple(x.shape))


def as_rows(x: Tensor) -> Tensor:
    """``x`` [..., D] as [N, D] with unit stride along D: a view where strides allow it, else one copy."""
    rows = x.reshape(-1, x.shape[-1]) if x.numel() else x.new_empty(x.shape[:-1].numel(), x.shape[-1])
    return rows if rows.stride(-1) == 1 or rows.shape[-1] == 1 else rows.contiguous()


def on_device_of(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Launches inside go to the device of ``x``, which need not be the current one."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


def next_power_of_2(n: int) -> int:
    """The smallest power of two that is at least ``n``, for n >= 1."""
    return 1 << (n - 1).bit_length()


def alignment(*strides: int) -> int:
    """The largest power of two up to 16 that divides every stride.

    Kernels take strides in this unit and the unit as a constant: the compiler then knows how rows are aligned and uses
    the widest accesses, which it cannot for a stride that it only knows to be no multiple of 16.
    """
    return math.gcd(16, *strides)


def row_tile(width: int, elements: int) -> tuple[int, int, int]:
    """(rows, columns, warps) of a tile that spans whole rows of ``width`` and holds about ``elements`` elements.

    Eight columns at least keep 16-byte accesses possible; a warp owns at least 512 elements, so that a thread holds at
    most 16 of a tile of the usual 2,048.
    """
    columns = max(8, next_power_of_2(width))
    rows = max(1, elements // columns)
    return rows, columns, min(16, max(4, rows * columns // 512))


def ceil_div(n: int, by: int) -> int:
    """``n / by`` rounded up."""
    return -(-n // by)
