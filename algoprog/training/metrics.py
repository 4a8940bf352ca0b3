"""Losses and gradient norms stay on the device between drains; a drain is the loop's only host read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from algoprog.training.engines import Engine


@dataclass(frozen=True)
class Drained:
    """Means over the steps since the last drain. ``bad_step`` counts from its first step; flags are true if any rank's is."""

    loss: float
    grad_norm: float
    bad_step: int | None
    stop: bool
    save: bool


class MetricBuffer:
    """Room for ``size`` steps of (loss, gradient norm)."""

    def __init__(self, size: int, engine: Engine) -> None:
        self._engine = engine
        self._rows = torch.zeros(size, 2, dtype=torch.float64, device=engine.place.device)
        self._used = 0

    def record(self, loss: Tensor, grad_norm: Tensor) -> None:
        self._rows[self._used, 0] = loss
        self._rows[self._used, 1] = grad_norm
        self._used += 1

    def drain(self, stop: bool, save: bool) -> Drained:
        """Average over ranks, read, and start anew."""
        flags = torch.tensor([[stop, save]], dtype=torch.float64, device=self._rows.device)
        packed = self._engine.sum_over_ranks(torch.cat((self._rows[: self._used], flags)))
        *rows, (stop_votes, save_votes) = packed.tolist()
        self._used = 0
        world = self._engine.place.world
        losses, norms = [row[0] / world for row in rows], [row[1] / world for row in rows]
        bad = [i for i, pair in enumerate(zip(losses, norms, strict=True)) if not all(map(math.isfinite, pair))]
        return Drained(
            loss=sum(losses) / len(losses),
            grad_norm=sum(norms) / len(norms),
            bad_step=bad[0] if bad else None,
            stop=stop_votes > 0,
            save=save_votes > 0,
        )
