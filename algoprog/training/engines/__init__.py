"""Engines decide how a step is executed, never what it computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from algoprog.config import unknown_key

StepBody = Callable[[], bool]
"""One training step; returns False when the run must stop after it."""


@dataclass(frozen=True)
class Placement:
    """Where this process runs: which of how many ranks, on which device, under which engine."""

    rank: int
    world: int
    device: torch.device
    engine: str


class Engine(Protocol):
    """What the loop needs from an engine."""

    place: Placement

    def adopt(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> nn.Module:
        """Take both over; returns the module to call in place of ``model``."""

    def backward(self, loss: Tensor) -> None:
        """Gradients of ``loss``; on return they are averaged over ranks."""

    def update(self) -> None:
        """One optimiser step and a gradient reset. Neither clips nor schedules: the loop has done both."""

    def drive(self, body: StepBody, steps: int) -> None:
        """Call ``body`` up to ``steps`` times, until it returns False."""

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        """``value`` summed over all ranks, the same on each of them."""

    def fence(self) -> None:
        """All ranks arrive before any leaves."""

    def close(self) -> None:
        """Leave the process group."""


def open_engine(name: str) -> Engine:
    """The engine called ``torch`` or ``deepspeed``, joined to the process group that the launcher announced.

    Raises:
        InputError: unknown name, or DeepSpeed is not installed.
    """
    if name == "torch":
        from algoprog.training.engines.torch_engine import TorchEngine

        return TorchEngine()
    if name == "deepspeed":
        from algoprog.training.engines.deepspeed_engine import DeepSpeedEngine

        return DeepSpeedEngine()
    raise unknown_key(name, ["torch", "deepspeed"], where="--engine", kind="engine")
