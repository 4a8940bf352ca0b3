"""What a run does to take less memory: smaller pieces of the same batch, and activations that are formed twice.

Neither changes the mathematics of a step, so neither is part of a recipe; both are recorded. ``recompute`` keeps every bit of
a loss, ``micro_batch`` changes the order of a sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from algoprog.config import InputError, RunConfig, unknown_key
from algoprog.training.accumulate import slices
from algoprog.training.recurrent import masks

Recompute = Literal["none", "blocks"]
RECOMPUTE: tuple[Recompute, ...] = ("none", "blocks")


@dataclass(frozen=True)
class Memory:
    """``micro_batch`` rows per rank at once, None for all of them; ``recompute`` "blocks" runs blocks (or recurrent layers)
    again in the backward pass instead of keeping what is inside them."""

    micro_batch: int | None = None
    recompute: Recompute = "none"

    def check(self, config: RunConfig, world: int) -> None:
        """See whether a run can be done like this on ``world`` ranks.

        Raises:
            InputError: a micro-batch below one row, or several of them with dropout, whose masks are drawn per micro-batch.
        """
        if self.micro_batch is not None and self.micro_batch < 1:
            raise InputError("no rows", where="--micro-batch", got=self.micro_batch, expected="at least 1")
        if masks(config) and self.micro_batches(config, world) > 1:
            raise InputError(
                "dropout in several micro-batches would change the run",
                where="--micro-batch",
                got=self.micro_batch,
                expected=f"{config.batch // world}, the rows of a rank",
            )

    def micro_batches(self, config: RunConfig, world: int) -> int:
        """How many forward and backward passes a step takes."""
        return len(slices(config.batch // world, self.micro_batch))

    def facts(self, config: RunConfig, world: int) -> dict[str, Any]:
        """As a run's record keeps it."""
        return {"micro_batches": self.micro_batches(config, world), "recompute": self.recompute}


PLAIN = Memory()
"""The whole batch at once, every activation kept."""


def parse_memory(micro_batch: int | None, recompute: str) -> Memory:
    """The options of `algoprog train`.

    Raises:
        InputError: ``recompute`` is no name in :data:`RECOMPUTE`.
    """
    for name in RECOMPUTE:
        if recompute == name:
            return Memory(micro_batch, name)
    raise unknown_key(recompute, list(RECOMPUTE), where="--recompute", kind="recomputation")
