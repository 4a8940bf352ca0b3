"""Model FLOPs of every fused operation, as exact integers, for the instrumented count.

A fused operation hides its products from PyTorch's counter (:class:`torch.utils.flop_counter.FlopCounterMode` counts an
unknown operation as nothing), so each one registers a formula here, forward and backward apart. The convention is that
of the models' own counts: matrix products alone, a multiply-add is two; elementwise work and norms count 0, and say so.
Hardware work beyond the mathematics, for example recomputation in a backward pass, does not count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

Formula = Callable[..., int]

FORMULAS: dict[str, Formula] = {}
"""Operation (``torch.ops.algoprog.NAME``) -> FLOPs from its arguments, shapes in place of tensors, and ``out_shape``."""


def elementwise(*_: Any, **__: Any) -> int:
    """Norms, activations, rotations: 0 model FLOPs."""
    return 0


def register_formula(op: str, formula: Formula = elementwise) -> None:
    """Count ``torch.ops.algoprog.<op>`` by ``formula``, in :data:`FORMULAS` and in PyTorch's counter."""
    FORMULAS[op] = formula
    register_flop_formula(getattr(torch.ops.algoprog, op))(formula)
