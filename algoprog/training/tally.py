"""Losses and gradient norms on the host: the steps since the last metric row, and the bad steps of the run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class Tally:
    """``pending`` are (loss, gradient norm) of the good steps since the last row, ``skipped`` counts the bad steps so far.

    ``last_loss`` is that of the last good step. A run that has more than ``allowed`` bad steps has diverged.
    """

    def __init__(self, allowed: int) -> None:
        self.allowed, self.skipped = allowed, 0
        self.pending: list[tuple[float, float]] = []
        self.last_loss: float | None = None

    def resume(self, pending: Tensor, skipped: int, last_loss: float | None) -> None:
        """Continue from a checkpoint: rows [n, 2], the bad steps before it, the loss of its last good step."""
        self.pending = [(float(loss), float(norm)) for loss, norm in pending]
        self.skipped, self.last_loss = skipped, last_loss

    def add(self, rows: Sequence[tuple[float, float]]) -> int | None:
        """Count steps; the place in ``rows`` of the step at which the run diverged, None if it goes on.

        What comes after that step was computed from weights that no longer change, and is left out.
        """
        for place, row in enumerate(rows):
            if all(map(math.isfinite, row)):
                self.pending.append(row)
                self.last_loss = row[0]
                continue
            self.skipped += 1
            if self.skipped > self.allowed:
                return place
        return None

    def take(self) -> tuple[float, float] | None:
        """Mean loss and gradient norm of the good steps since the last row, which begins anew; None if there were none."""
        rows, self.pending = self.pending, []
        if not rows:
            return None
        return sum(loss for loss, _ in rows) / len(rows), sum(norm for _, norm in rows) / len(rows)

    def tensor(self) -> Tensor:
        """``pending`` as a checkpoint keeps it: [n, 2] float64."""
        return torch.tensor(self.pending, dtype=torch.float64).reshape(-1, 2)
