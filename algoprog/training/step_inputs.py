"""What the steps of one interval read, in one table on the device, indexed by a counter on the device.

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
from algoprog.training.recurrent import carries, forgotten


class StepInputs:
    """A table for up to ``capacity`` K steps of b rows, at an address that never changes.

    ``cursor`` [1] int64 counts the steps of the interval on the device. A step begins with :meth:`batch`, which also puts the
    step's learning rate into ``rate`` (float64 scalar), and whether carried state survives into it into ``keep`` (bool
    scalar); it ends with :meth:`advance`.
    """

    def __init__(self, config: RunConfig, store: TokenStore, place: Placement, capacity: int) -> None:
        self._place, self.capacity = place, capacity
        rows, device = config.batch // place.world, place.device
        self.tokens = DeviceTokens(store.train, config.model.context, capacity * rows, device)
        self.cursor = torch.zeros(1, dtype=torch.int64, device=device)
        # A row per step, of eight bytes each: b starts, the rate, the flag eight times. One operation fetches all of it; after
        # a backward pass has used up the caches, an operation on a single number takes five times as long as in a tight loop.
        self._table = torch.zeros(capacity, rows + 2, dtype=torch.int64, device=device)
        self._row = torch.zeros(1, rows + 2, dtype=torch.int64, device=device)
        self._starts = self._row[0, :rows]
        self.rate = self._row.view(torch.float64)[0, rows]
        self.keep = self._row.view(torch.bool)[0, -1]
        self._one = torch.ones(1, dtype=torch.int64, device=device)

    def load(self, config: RunConfig, order: Order, rates: Sequence[float], first: int) -> None:
        """Make ready for the ``len(rates)`` steps from step ``first`` on; ``rates`` are their learning rates."""
        steps, place = len(rates), self._place
        starts = order.windows_of(first, steps, place.rank, place.world)
        of_all = starts if place.world == 1 or not carries(config) else order.windows_of(first, steps)
        rows = np.empty((steps, self._row.shape[1]), dtype=np.int64)
        rows[:, :-2] = self.tokens.locate(starts)
        rows[:, -2] = np.asarray(rates, dtype=np.float64).view(np.int64)
        rows[:, -1] = np.repeat(~forgotten(config, order, first, of_all), 8).view(np.int64)
        send(rows, self._table[:steps])
        self.cursor.zero_()

    def batch(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the step, each [b, T] int64."""
        torch.index_select(self._table, 0, self.cursor, out=self._row)
        return self.tokens.rows(self._starts)

    def advance(self) -> None:
        """On to the next step of the interval."""
        self.cursor.add_(self._one)
