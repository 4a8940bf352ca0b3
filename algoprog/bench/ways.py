"""Ways to run the steps of one config: this package's loop, and plain PyTorch. Each reports seconds and losses of n steps.

All start from the same weights and see the same batches in the same order, so that a way that computes something else shows
in its losses. What a user would do once is done before the clock starts: tokens on the device, offsets of all batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoprog.bench.plain import build_plain, build_plain_optimizer
from algoprog.config import BudgetConfig, LstmConfig, RunConfig
from algoprog.data.order import Order, make_order, reset_draw
from algoprog.data.store import TokenStore
from algoprog.models import build_model
from algoprog.training.engines import Engine
from algoprog.training.loop import train
from algoprog.training.schedule import schedule_factors

PER_STEP_LOSSES_BELOW = 200
"""A shorter run of the loop reports every step."""


@dataclass(frozen=True)
class Sample:
    """``steps`` steps in ``seconds`` of wall time and ``cpu_seconds`` of this process; losses of single steps, if asked for."""

    steps: int
    seconds: float
    cpu_seconds: float
    losses: tuple[float, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As it travels between processes."""
        return {"steps": self.steps, "seconds": self.seconds, "cpu_seconds": self.cpu_seconds, "losses": self.losses}


class Way(Protocol):
    """One way to run steps; every call starts the run anew."""

    def run(self, steps: int) -> Sample:
        """Seconds of ``steps`` steps after the first one."""

    def first_losses(self, steps: int) -> tuple[float, ...]:
        """Mean losses (nats per token) of the first ``steps`` steps of a run of that length."""


@dataclass
class LoopWay:
    """This package's loop. Start-up, building, compiling and evaluation are outside of the clock."""

    config: RunConfig
    store: TokenStore
    engine: Engine
    kernels: str = "auto"
    execution: str = "auto"

    def run(self, steps: int) -> Sample:
        marks: list[tuple[int, float, float]] = []

        def mark(row: dict[str, Any]) -> None:
            marks.append((row["step"], time.perf_counter(), time.process_time()))

        self._train(steps + _first_interval(steps), mark)
        (first, *began), (last, *ended) = marks[0], marks[-1]
        return Sample(last - first, ended[0] - began[0], ended[1] - began[1])

    def first_losses(self, steps: int) -> tuple[float, ...]:
        assert steps < PER_STEP_LOSSES_BELOW
        losses: list[float] = []
        self._train(steps, lambda row: losses.append(row["loss"]))
        return tuple(losses)

    def _train(self, steps: int, on_metrics: Callable[[dict[str, Any]], None]) -> None:
        tokens = steps * self.config.batch * self.config.model.context
        config = self.config.model_copy(update={"budget": BudgetConfig(tokens=tokens)})
        train(config, self.store, self.engine, kernels=self.kernels, execution=self.execution, on_metrics=on_metrics)


def _first_interval(steps: int) -> int:
    """Steps until the loop's first report, from which on it is timed."""
    return max(1, steps // 100)


class PlainWay:
    """Plain PyTorch, eager or compiled, on the same device."""

    def __init__(self, config: RunConfig, store: TokenStore, engine: Engine, compiled: bool = False) -> None:
        self.config, self.device = config, engine.place.device
        self.weights = [p.detach() for p in build_model(config.model, config.seed).parameters()]
        self.tokens = torch.from_numpy(np.asarray(store.train).astype(np.int64)).to(self.device)
        self.order = make_order(config.data.order, len(store.train), config.model.context, config.batch, config.seed)
        self.offsets = torch.arange(config.model.context + 1, device=self.device)
        self.model = build_plain(config, self.weights).to(self.device)
        self.call: nn.Module | Callable[..., Any] = torch.compile(self.model, dynamic=False) if compiled else self.model

    def run(self, steps: int) -> Sample:
        step = self._start(steps + 1)
        step(0)
        _wait(self.device)
        began = time.perf_counter(), time.process_time()
        for number in range(1, steps + 1):
            step(number)
        _wait(self.device)
        return Sample(steps, time.perf_counter() - began[0], time.process_time() - began[1])

    def first_losses(self, steps: int) -> tuple[float, ...]:
        step = self._start(steps)
        return tuple(float(step(number)) for number in range(steps))

    def _start(self, steps: int) -> Callable[[int], Tensor]:
        """Weights as at the start, a fresh optimiser; returns the step as a function of its number."""
        config, model = self.config, self.model
        with torch.no_grad():
            for mine, theirs in zip(model.parameters(), self.weights, strict=True):
                mine.copy_(theirs)
        optimizer = build_plain_optimizer(config.optim, model)
        rates = [config.optim.lr * factor for factor in schedule_factors(config.schedule, steps)]
        starts = [torch.from_numpy(self.order.windows(n)).to(self.device) for n in range(steps)]
        forgets = [_forgets(config, self.order, n) for n in range(steps)]
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16")
        state: Any = None

        def step(number: int) -> Tensor:
            nonlocal state
            rows = self.tokens[starts[number][:, None] + self.offsets]
            with half:
                logits, state = self.call(rows[:, :-1], None if forgets[number] else state)
            loss = F.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if config.optim.clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip)
            for group in optimizer.param_groups:
                group["lr"] = rates[number]
            optimizer.step()
            return loss.detach()

        return step


def _forgets(config: RunConfig, order: Order, step: int) -> bool:
    """Whether this step starts from the zero state; without recurrent state always."""
    model = config.model
    if not isinstance(model, LstmConfig) or not model.carry_state:
        return True
    return order.starts_fresh(step) or reset_draw(config.seed, step) < model.reset_probability


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def make_way(kind: str, config: RunConfig, store: TokenStore, engine: Engine, kernels: str, execution: str) -> Way:
    """``loop``, ``plain`` or ``compiled``."""
    if kind == "loop":
        return LoopWay(config, store, engine, kernels, execution)
    assert kind in ("plain", "compiled"), kind
    return PlainWay(config, store, engine, compiled=kind == "compiled")
