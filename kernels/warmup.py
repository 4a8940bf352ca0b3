"""Nothing may compile while something is timed or captured: run it once before, and see what compiles.

Triton compiles a kernel when it is first launched with new constants, types or alignments, which takes from a tenth of a
second to several. What decides is in the call itself, so the call is what :func:`warm_up` takes, not a list of shapes.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import torch


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """The names of the Triton kernels that were compiled, or loaded from Triton's cache on disk, inside ``with``.

    Without triton, and in its interpreter, there are none. What Inductor compiles in processes of its own is not seen.
    """
    found: list[str] = []
    if importlib.util.find_spec("triton") is None:
        yield found
        return
    from triton import knobs

    before = knobs.compilation.listener

    def listen(**event: Any) -> None:
        found.append(str(event["src"].name))
        if before is not None:
            before(**event)

    knobs.compilation.listener = listen
    try:
        yield found
    finally:
        knobs.compilation.listener = before


def warm_up(*calls: Callable[[], object]) -> list[str]:
    """Make every call twice and return the kernels that this compiled, in order; the device is idle afterwards.

    A call is whatever will be timed or captured: an operation with its arguments, a forward and a backward pass. Its side
    effects happen twice; for an optimiser see :meth:`algoprog.kernels.FlatAdamW.warm_up`.

    Raises:
        RuntimeError: the second time a kernel was compiled again, so that no number of calls would be enough.
    """
    with compilations() as first:
        for call in calls:
            call()
    with compilations() as second:
        for call in calls:
            call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    if second:
        raise RuntimeError(f"warm_up: expected nothing left to compile, got {', '.join(second)} at the second call")
    return first
