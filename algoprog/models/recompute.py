"""Activations that are formed again in the backward pass instead of being kept (Chen et al. 2016, section 3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def call(module: nn.Module, recompute: bool, *args: Any) -> Any:
    """``module(*args)``; with ``recompute`` it keeps its inputs only and runs again, up to its last saved tensor, in the
    backward pass. Same numbers, bit for bit: nothing in a block of ours draws from a global random generator.
    """
    if not recompute or not torch.is_grad_enabled():
        return module(*args)
    return checkpoint(module, *args, use_reentrant=False, preserve_rng_state=False)
