"""What the steps of one interval read, in tables on the device, indexed by a counter on the device.

Once per interval the host computes its rows from (seed, step) and sends them; between two intervals no step needs the host.
All that is random (order of windows, random resets) is computed by :mod:`algoprog.data.order` for the whole interval at once,
which on a CPU takes a twentieth of the time of doing it step by step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from algoprog.config import RunConfig
from algoprog.data.order import Order
from algoprog.data.store import TokenStore
from algoprog.training.device_data import DeviceTokens, send
from algoprog.training.engines import Placement
from algoprog.training.recurrent import forgets


class StepInputs:
    """Tables for up to ``capacity`` K steps of b rows, at addresses that never change.

    ``cursor`` [1] int64 counts the steps of the interval on the device; a step ends with :meth:`advance`.
    """

    def __init__(self, config: RunConfig, store: TokenStore, place: Placement, capacity: int) -> None:
        self._place, self.capacity = place, capacity
        rows, device = config.batch // place.world, place.device
        self.tokens = DeviceTokens(store.train, config.model.context, capacity * rows, device)
        self.cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self._starts = torch.zeros(capacity, rows, dtype=torch.int64, device=device)
        self._rates = torch.zeros(capacity, dtype=torch.float64, device=device)
        self._keeps = torch.zeros(capacity, dtype=torch.bool, device=device)

    def load(self, config: RunConfig, order: Order, rates: Sequence[float], first: int) -> None:
        """Make ready for the ``len(rates)`` steps from step ``first`` on; ``rates`` are their learning rates."""
        steps, place = len(rates), self._place
        starts = self.tokens.locate(order.windows_of(first, steps, place.rank, place.world))
        keeps = [not forgets(config, order, step) for step in range(first, first + steps)]
        send(starts, self._starts[:steps])
        send(np.asarray(rates, dtype=np.float64), self._rates[:steps])
        send(np.asarray(keeps), self._keeps[:steps])
        self.cursor.zero_()

    def batch(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the step, each [b, T] int64."""
        return self.tokens.rows(self._starts.index_select(0, self.cursor)[0])

    def rate(self) -> Tensor:
        """Learning rate of the step, float64 scalar."""
        return self._rates.index_select(0, self.cursor)[0]

    def keep(self) -> Tensor:
        """Whether carried state survives into the step, bool scalar."""
        return self._keeps.index_select(0, self.cursor)[0]

    def advance(self) -> None:
        """On to the next step of the interval."""
        self.cursor.add_(1)
