"""Runs of a second on tokens in memory, for experiments that need many of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from algoprog.config import BudgetConfig, RunConfig
from algoprog.data.store import TokenStore
from algoprog.recipes import resolve
from algoprog.training.checkpoint import Checkpoints
from algoprog.training.engines import Engine
from algoprog.training.loop import Run, Stopped
from algoprog.training.outcome import Outcome
from algoprog.training.warm import Programs

ARCHES = ("modern", "retro", "lstm")
BATCH, CONTEXT = 4, 16


def tokens() -> TokenStore:
    """A pattern of 53 ids, 20,000 for training and 600 for validation."""
    ids = (np.arange(20_000) * 7 % 53).astype(np.uint16)
    return TokenStore(Path("pattern"), ids, ids[:600], 300, 299, "pattern", 40_000, 1_200, {})


def small(arch: str, steps: int = 30, lr: float = 0.01, **settings: Any) -> RunConfig:
    """A run of ``steps`` steps of 64 tokens at width 16; ``settings`` are config keys."""
    model = {"context": CONTEXT, **({"bptt": 8} if arch.startswith("lstm") else {}), **settings.pop("model", {})}
    overrides = {"batch": BATCH, "model": model, "data": {"tokenizer": "bpe-300"}, **settings}
    return resolve(arch, 16, BudgetConfig(tokens=steps * BATCH * CONTEXT), lr=lr, overrides=overrides)


@dataclass(frozen=True)
class Trace:
    """What a run leaves: outcome, metric rows, and weights and optimiser state at its end."""

    outcome: Outcome
    rows: list[dict[str, Any]]
    tensors: dict[str, Tensor]

    def same_as(self, other: Trace) -> bool:
        """Whether two runs are equal bit for bit: every row, every score, every tensor."""
        if self.rows != other.rows or self.tensors.keys() != other.tensors.keys():
            return False
        fields = (
            "state",
            "steps",
            "loss",
            "loss_windowed",
            "loss_streaming",
            "train_loss",
            "skipped",
            "message",
            "flops",
        )
        equal = all(getattr(self.outcome, name) == getattr(other.outcome, name) for name in fields)
        return equal and all(_same_bits(self.tensors[name], other.tensors[name]) for name in self.tensors)


def follow(
    config: RunConfig, store: TokenStore, engine: Engine, checkpoints: Checkpoints | None = None, **options: Any
) -> Trace:
    """Train to the end and keep everything."""
    rows: list[dict[str, Any]] = []
    run = Run(config, Programs(store, engine), checkpoints=checkpoints, on_metrics=rows.append, **options)
    outcome = run.complete()
    state = engine.optimizer_state(run.program.model, run.program.optimizer)
    found = {**engine.weights(run.program.model), **state}
    return Trace(outcome, rows, {name: tensor.clone() for name, tensor in found.items()})


class StopAfter:
    """A stop request that comes once ``steps`` steps are done, wherever in an interval that is."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.run: Run | None = None

    def __call__(self) -> bool:
        return self.run is not None and self.run.step.done >= self.steps


def stop_at(
    config: RunConfig, store: TokenStore, engine: Engine, checkpoints: Checkpoints, stops: Sequence[int],
    between: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
    """Start the run and stop it after each of ``stops`` steps in turn; ``between`` is called after each stop.

    Steps are executed one at a time, so that the state is saved exactly where it is asked for.
    """
    for steps in stops:
        stopper = StopAfter(steps)
        run = Run(config, Programs(store, engine), checkpoints=checkpoints, should_stop=stopper)
        stopper.run = run
        run.pace.note = lambda steps, seconds: None  # type: ignore[method-assign]
        try:
            run.complete()
        except Stopped:
            assert run.step.done == max(steps, run.first_step + 1)
        between()


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(_bits(a), _bits(b))


def _bits(tensor: Tensor) -> Tensor:
    """NaN compares unequal to itself, its bits do not."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)
