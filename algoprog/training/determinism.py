"""Deterministic mode: operations that would add in a different order every time are replaced or refused.

On a CPU the same program on the same number of threads gives the same bits anyway; the mode is on there, because it costs
nothing that could be measured. On a GPU it is off unless asked for, until its cost has been measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


def wants_determinism(request: bool | None, device: torch.device) -> bool:
    """What ``request`` means on ``device``; None is the default there."""
    return device.type == "cpu" if request is None else request


@contextmanager
def determinism(on: bool) -> Iterator[None]:
    """The mode inside, and whatever it was before afterwards."""
    fills: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled()
    filled, cudnn = fills.fill_uninitialized_memory, torch.backends.cudnn.deterministic
    switch_determinism(on)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        fills.fill_uninitialized_memory = filled
        torch.backends.cudnn.deterministic = cudnn


def switch_determinism(on: bool) -> None:
    """Set the mode for the rest of the process. Before the first product on a GPU: cuBLAS reads its setting there.

    Fresh memory is not filled: nothing here reads what it has not written, and filling costs time.
    """
    if on:
        os.environ.setdefault(CUBLAS, ":4096:8")
        os.environ.setdefault("NCCL_ALGO", "Ring")  # one algorithm adds in one order
    fills: Any = torch.utils.deterministic  # PyTorch does not declare its one setting
    fills.fill_uninitialized_memory = False
    torch.use_deterministic_algorithms(on)
    torch.backends.cudnn.deterministic = on
