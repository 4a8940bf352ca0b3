"""Forward and backward of one step in micro-batches: fewer rows at once take less memory for the same gradient.

The micro-batches are slices of the rank's rows in order, the last one perhaps smaller. Each adds the gradient of its summed
loss divided by the tokens of all rows, so that the sum is the gradient of the mean over the whole batch up to the order of
summation. How a batch is cut is no part of a recipe; it is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from algoprog.training.engines import Engine
from algoprog.training.recurrent import Carried


def slices(rows: int, micro_batch: int | None) -> list[slice]:
    """Cut ``rows`` rows of a rank into slices of ``micro_batch`` rows; None is all of them at once."""
    size = rows if micro_batch is None else micro_batch
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def forward_backward(
    call: Callable[..., Any],
    engine: Engine,
    inputs: Tensor,
    targets: Tensor,
    before: Carried,
    generator: torch.Generator | None,
    parts: list[slice],
) -> tuple[Tensor, Carried]:
    """Loss in nats per token (detached) of this rank's rows and the state after them; gradients are accumulated.

    inputs, targets: [b, T] int64; ``before``: (h, c), each [1, b, D], per layer; ``parts`` as from :func:`slices`.
    """
    tokens = targets.numel()

    def one(rows: Tensor, wanted: Tensor, state: Carried, last: bool) -> tuple[Tensor, Carried]:
        with engine.accumulating(last):
            loss_sum, after = call(rows, wanted, state, generator)
            loss = loss_sum / tokens
            engine.backward(loss)
        return loss.detach(), after

    if len(parts) == 1:  # slices that cut nothing off are operations all the same
        return one(inputs, targets, before, last=True)
    losses: list[Tensor] = []
    states: list[Any] = []
    for part in parts:
        state = None if before is None else [(h[:, part], c[:, part]) for h, c in before]
        loss, after = one(inputs[part], targets[part], state, last=part is parts[-1])
        losses.append(loss)
        states.append(after)
    return torch.stack(losses).sum(), None if states[0] is None else _join(states)


def _join(states: list[list[tuple[Tensor, Tensor]]]) -> list[tuple[Tensor, Tensor]]:
    """The states of all micro-batches as one, layer by layer."""
    return [
        (torch.cat([h for h, _ in layer], dim=1), torch.cat([c for _, c in layer], dim=1))
        for layer in zip(*states, strict=True)
    ]
