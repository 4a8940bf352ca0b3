"""Restart replay: what an attempt reports again must be what the attempt before it reported, bit for bit.

An attempt that continues from a checkpoint repeats the steps after it. Under one environment in deterministic mode a
difference in their rows means that a resumed run is not the undisturbed one: an error, for nothing downstream would notice.
Under another environment (device, library, threads, number of ranks) bits may differ, and only a warning is given.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

COMPARED = ("loss", "grad_norm", "lr", "tokens", "flops")


class ReplayMismatch(RuntimeError):
    """A repeated step gave other numbers than the first time."""


class Replay:
    """Holds the ``earlier`` rows of a run and compares those that come again. ``compared`` counts them."""

    def __init__(self, earlier: Iterable[Mapping[str, Any]], strict: bool) -> None:
        self._earlier = {row["step"]: row for row in earlier if "step" in row}
        self._strict = strict
        self.compared, self.different = 0, 0

    def check(self, row: Mapping[str, Any]) -> None:
        """Compare a row with the earlier one of its step, if there is one.

        Raises:
            ReplayMismatch: they differ, and must not.
        """
        before = self._earlier.get(row["step"])
        if before is None:
            return
        self.compared += 1
        for key in COMPARED:
            if before.get(key) != row.get(key):
                self._tell(
                    f"step {row['step']}, repeated after a restart: {key} {row.get(key)!r}, was {before.get(key)!r}"
                )
                return

    def _tell(self, text: str) -> None:
        if self._strict:
            raise ReplayMismatch(
                f"{text}; the environment is the same, so the continued run is not the one that stopped"
            )
        self.different += 1
        if self.different == 1:
            print(f"warning: {text}; device, library, threads or mode differ", file=sys.stderr, flush=True)
