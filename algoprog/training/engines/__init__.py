"""Engines decide how a step is executed, never what it computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from algoprog.config import InputError, unknown_key


@dataclass(frozen=True)
class Placement:
    """Where this process runs: which of how many ranks, on which device, under which engine."""

    rank: int
    world: int
    device: torch.device
    engine: str


class Engine(Protocol):
    """What the loop needs from an engine.

    ``grad_norm`` is None where the loop clips. Where the engine must (ZeRO from stage 1 on), it is a scalar that holds the
    norm before clipping from each update on, infinite after an update that was left out because a gradient was not finite.
    """

    place: Placement
    grad_norm: Tensor | None

    def adopt(self, model: nn.Module, optimizer: torch.optim.Optimizer, max_norm: float | None) -> nn.Module:
        """Take both over; returns the module to call in place of ``model``. ``max_norm`` is for an engine that clips."""

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of a micro-batch: before the ``last`` one of a step no gradient leaves its rank."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``; after those of the last micro-batch they are averaged over ranks."""

    def update(self) -> None:
        """One optimiser step and a gradient reset. Does not schedule: the loop has done that."""

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """Whole weights by name, on every rank. Collective."""

    def optimizer_state(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """Whole optimiser state by the names of :mod:`algoprog.training.optimizer_state`, on every rank. Collective."""

    def load(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        weights: Mapping[str, Tensor],
        state: Mapping[str, Tensor],
    ) -> None:
        """Put whole weights and whole optimiser state, as the two functions above give them, into place. Collective."""

    def restart(self, model: nn.Module, optimizer: torch.optim.Optimizer, weights: Mapping[str, Tensor]) -> None:
        """Another run begins with both: give the model ``weights``, whole ones, and make the optimiser as if it had taken no
        step, in the tensors that are there. Collective."""

    def whole_model(self, model: nn.Module, build: Callable[[], nn.Module]) -> nn.Module:
        """A model to call outside of steps: ``model``, or one from ``build`` if the weights of ``model`` are cut up."""

    def record(self) -> Mapping[str, Any]:
        """What a run's record keeps about the engine; ``deterministic_across_engines`` says whether another one gives the
        same bits at the same world size."""

    def capture_obstacle(self) -> str | None:
        """Why this engine cannot replay a recorded step; None if it can."""

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        """``value`` summed over all ranks, the same on each of them."""

    def fence(self) -> None:
        """All ranks arrive before any leaves."""

    def close(self) -> None:
        """Leave the process group."""


def open_engine(name: str, deepspeed: str | None = None) -> Engine:
    """The engine called ``torch`` or ``deepspeed``, joined to the process group that the launcher announced.

    ``deepspeed`` is a file of settings for DeepSpeed, or the name of a shipped one.

    Raises:
        InputError: unknown name, DeepSpeed is not installed or too old, or its settings are not for it to decide.
    """
    if name == "torch":
        if deepspeed is not None:
            raise InputError("settings for DeepSpeed, but the engine is torch", where="--deepspeed", got=deepspeed)
        from algoprog.training.engines.torch_engine import TorchEngine

        return TorchEngine()
    if name == "deepspeed":
        from algoprog.training.engines.deepspeed_engine import DeepSpeedEngine
        from algoprog.training.engines.deepspeed_settings import read_settings

        return DeepSpeedEngine(None if deepspeed is None else read_settings(deepspeed))
    raise unknown_key(name, ["torch", "deepspeed"], where="--engine", kind="engine")
