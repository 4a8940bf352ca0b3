"""Seconds by phase of one run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = ("start_up", "build", "compile", "capture", "train", "evaluate", "write")
"""What a run's time is made of: start of its process (first run of a worker only), building the program, compiling or
recording it, training, validation, and writing checkpoints. Phases that did not happen are absent."""


class Clock:
    """Sums wall seconds per phase, without those that are spent in a phase inside the phase.

    Several runs that take turns in one process each count only their own turns, so that their times add up to the whole.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Everything inside is time of phase ``name``."""
        outer, self._inner, began = self._inner, 0.0, time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._inner
            self._inner = outer + spent
