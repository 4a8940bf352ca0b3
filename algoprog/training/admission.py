"""How many runs share a GPU: twice as many as long as that is measured to pay, and only while memory lasts.

What pays depends on the shape of the runs: an LSTM of width 64 leaves most of a GPU idle, a transformer of width 768 nothing.
So the choice is made anew for every shape, from training tokens per second at 1, 2, 4 and 8 runs at once.

NVIDIA's MPS, which lets several processes share a GPU, is not started from here. It helps where the host is the bottleneck,
which recorded steps do away with; its server is one per machine, outlives whoever starts it, and a fault of one process takes
all others with it. Where an administrator runs one, ``--workers`` above the number of GPUs makes use of it.
"""

from __future__ import annotations

import torch

LEVELS = (1, 2, 4, 8)
GAIN = 1.1
"""More runs at once must raise tokens per second by this factor, else the number before is kept."""
WINDOW_S = 5.0
"""Seconds over which a rate is measured."""
SPARE = 1.2
"""A run is let in beside others if this multiple of what such a run took before is free."""


class Admission:
    """The number of runs at once for the runs of one shape."""

    def __init__(self, fixed: int | None = None) -> None:
        """``fixed`` is the number; None starts at 1 and measures."""
        self.level = LEVELS[0] if fixed is None else fixed
        self.settled = fixed is not None
        self.rates: dict[int, float] = {}
        self._tokens, self._seconds = 0, 0.0

    def observe(self, running: int, tokens: int, seconds: float) -> None:
        """``running`` runs trained ``tokens`` in ``seconds``; with other than ``level`` runs that says nothing."""
        if self.settled or running != self.level:
            self._tokens, self._seconds = 0, 0.0
            return
        self._tokens, self._seconds = self._tokens + tokens, self._seconds + seconds
        if self._seconds >= WINDOW_S:
            self.rates[self.level] = self._tokens / self._seconds
            self._tokens, self._seconds = 0, 0.0
            self._decide()

    def _decide(self) -> None:
        place = LEVELS.index(self.level)
        if place > 0 and self.rates[self.level] < GAIN * self.rates[LEVELS[place - 1]]:
            self.level, self.settled = LEVELS[place - 1], True
        elif self.level == LEVELS[-1]:
            self.settled = True
        else:
            self.level = LEVELS[place + 1]


def fits(device: torch.device, needed_bytes: int | None) -> bool:
    """Whether a run that needs so much memory can start beside others; one whose need is unknown cannot."""
    if device.type != "cuda":
        return True
    if needed_bytes is None:
        return False
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + unused >= SPARE * needed_bytes
