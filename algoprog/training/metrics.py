"""Losses and gradient norms stay on the device between drains; a drain is the loop's only host read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from algoprog.training.engines import Engine


@dataclass(frozen=True)
class Drained:
    """(loss, gradient norm) of each step since the last drain, and sums over ranks of numbers that the host handed in."""

    rows: list[tuple[float, float]]
    sums: list[float]


class MetricBuffer:
    """Room for ``size`` steps of (loss, gradient norm), at an address that never changes."""

    def __init__(self, size: int, engine: Engine) -> None:
        self._engine = engine
        self._rows = torch.zeros(size, 2, dtype=torch.float64, device=engine.place.device)
        self._row = torch.zeros(1, 2, dtype=torch.float64, device=engine.place.device)
        self._loss, self._norm = self._row[0, 0], self._row[0, 1]

    def record(self, loss: Tensor, grad_norm: Tensor, at: Tensor) -> None:
        """Keep two scalars in row ``at`` [1] int64, a counter on the device."""
        self._loss.copy_(loss)
        self._norm.copy_(grad_norm)
        self._rows.index_copy_(0, at, self._row)

    def drain(self, steps: int, numbers: Sequence[float]) -> Drained:
        """Average the first ``steps`` rows over ranks and read them; ``numbers`` are added up over ranks on the way."""
        handed_in = torch.tensor(numbers, dtype=torch.float64, device=self._rows.device)
        packed = self._engine.sum_over_ranks(torch.cat((self._rows[:steps].flatten(), handed_in)))
        values, world = packed.tolist(), self._engine.place.world
        pairs = zip(values[: 2 * steps : 2], values[1 : 2 * steps : 2], strict=True)
        return Drained([(loss / world, norm / world) for loss, norm in pairs], values[2 * steps :])
