"""Where the time of one step goes: gather, forward, head, backward, optimiser, and what the loop adds between them.

The parts are timed in a step written out by hand from the same model, optimiser, tokens and order, the latter drawn for 50
steps at once as in the loop. The graph is cut in front of the
head, so that its forward and backward pass can be timed apart from the body's; the work stays the same. On a GPU the device is
awaited after every part, so parts are longer than in a step that runs without a stop, and the gap may be negative.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from algoprog.bench.spread import median_interval, quantile
from algoprog.bench.ways import LoopWay, Sample, Way
from algoprog.config import BudgetConfig, LstmConfig, RunConfig
from algoprog.data.order import make_order
from algoprog.data.store import TokenStore
from algoprog.kernels import select
from algoprog.models import build_model
from algoprog.training.device_data import DeviceTokens
from algoprog.training.engines import Engine
from algoprog.training.loop import Run
from algoprog.training.optim import build_optimizer, clip_gradients
from algoprog.training.warm import Programs

PARTS = ("gather", "forward", "head", "backward", "optimiser")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
DRAWN_STEPS = 50


class BareStep:
    """The loop's step without the loop: no metrics, no schedule, no flags. Calling it trains one step."""

    def __init__(self, config: RunConfig, store: TokenStore, engine: Engine, kernels: str = "auto") -> None:
        self.config, self.device = config, engine.place.device
        self.tokens = DeviceTokens(store.train, config.model.context, DRAWN_STEPS * config.batch, self.device)
        operations = select(kernels, self.device, DTYPES[config.precision])
        self.model = build_model(config.model, config.seed, DTYPES[config.precision], operations).to(self.device)
        self.optimizer = build_optimizer(config.optim, self.model, operations)
        self.order = make_order(config.data.order, len(store.train), config.model.context, config.batch, config.seed)
        self.carries = isinstance(config.model, LstmConfig) and config.model.carry_state
        self.state: Any = None
        self.done = 0

    def __call__(self) -> None:
        inputs, targets = self._gather()
        loss_sum, state = self.model(inputs, targets, self.state)
        self.state = state if self.carries else None
        (loss_sum / targets.numel()).backward()
        self._update()

    def _gather(self) -> tuple[Tensor, Tensor]:
        at = self.done % DRAWN_STEPS
        if at == 0:
            starts = self.tokens.locate(self.order.windows_of(self.done, DRAWN_STEPS, 0, 1))
            self.starts = torch.from_numpy(starts).to(self.device)
        self.done += 1
        return self.tokens.rows(self.starts[at])

    def _update(self) -> None:
        clip_gradients(self.config.optim, self.optimizer, self.model)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def timed(self) -> dict[str, float]:
        """One step; seconds of each of :data:`PARTS`."""
        head = self.model.head
        assert isinstance(head, nn.Module)
        clock = _PartClock(self.device)
        inputs, targets = self._gather()
        clock.lap("gather")
        cut: list[Tensor] = []

        def before_head(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden = arguments[0]
            cut[:] = [hidden, hidden.detach().requires_grad_()]
            clock.lap("forward")
            return (cut[1], *arguments[1:])

        hook = head.register_forward_pre_hook(before_head)
        try:
            loss_sum, state = self.model(inputs, targets, self.state)
        finally:
            hook.remove()
        self.state = state if self.carries else None
        (loss_sum / targets.numel()).backward()
        clock.lap("head")
        cut[0].backward(cut[1].grad)  # type: ignore[no-untyped-call]
        clock.lap("backward")
        self._update()
        clock.lap("optimiser")
        return clock.seconds


class _PartClock:
    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, dict[str, float]()
        self._last = self._now()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def lap(self, part: str) -> None:
        now = self._now()
        self.seconds[part] = now - self._last
        self._last = now


def time_parts(step: BareStep, loop: Way, rounds: int, steps: int = 3) -> dict[str, float]:
    """Seconds of each part, ``bare`` (a step that is not taken apart) and ``loop`` (a step of the loop).

    Everything is timed in every round and the least of all rounds kept: what disturbs a machine only ever adds time.
    """
    step.timed()
    least: dict[str, float] = {}
    for _ in range(rounds):
        found = _means([step.timed() for _ in range(steps)])
        found |= {"bare": seconds_of(step, steps)[0] / steps, "loop": _per_step(loop.run(steps))[0]}
        least = {name: min(value, least.get(name, value)) for name, value in found.items()}
    return least


@dataclass(frozen=True)
class Overhead:
    """What the loop adds to its steps, as a fraction: median of the rounds, and the interval for that median
    (:func:`~algoprog.bench.spread.median_interval`), None with fewer than six rounds."""

    median: float
    interval: tuple[float, float] | None
    rounds: int


def loop_overhead(loop: LoopWay, rounds: int, steps: int = 10) -> Overhead:
    """CPU seconds of the loop outside of what a bare step does, over those inside of it, in ``rounds`` rounds of ``steps``.

    Inside are drawing and reading the batch, calling the model, the backward pass, clipping and the update. Both are taken
    from the same steps: on a busy machine, where steps of the loop and bare ones in turn differ by a tenth either way, a
    ratio of neighbours within a step still has a narrow interval. A report follows every ``steps`` steps, as often as in any
    run.
    """
    run = _endless_run(loop, rounds + 1, steps)
    inside = _time_inside(run)
    ratios = []
    for number in range(rounds + 1):
        until, began, before = run.step.done + steps, time.process_time(), inside[0]
        while run.step.done < until and run.launch():
            run.collect()
        work = inside[0] - before
        if number > 0:  # the first steps make what later ones only use
            ratios.append((time.process_time() - began) / work - 1.0)
    return Overhead(quantile(ratios, 0.5), median_interval(ratios), rounds)


def _endless_run(loop: LoopWay, intervals: int, steps: int) -> Run:
    """A run of at least so many intervals of ``steps`` steps: a run reports a hundred times, or every step."""
    tokens = steps * max(intervals, 100) * loop.config.batch * loop.config.model.context
    config = loop.config.model_copy(update={"budget": BudgetConfig(tokens=tokens)})
    return Run(config, Programs(loop.store, loop.engine, loop.kernels, loop.execution))


def _time_inside(run: Run) -> list[float]:
    """From now on the first entry grows by the CPU seconds of all that a bare step does, too."""
    spent = [0.0]

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                spent[0] += time.process_time() - began

        return wrapper

    step = run.step
    calls: tuple[tuple[object, str], ...] = (
        (step.order, "windows_of"), (step.inputs.tokens, "locate"), (step.inputs.tokens, "rows"), (step, "call"),
        (run.engine, "backward"), (step, "clip"), (run.engine, "update"),
    )  # fmt: skip
    for owner, name in calls:
        setattr(owner, name, timed(getattr(owner, name)))
    return spent


def seconds_of(step: BareStep, steps: int) -> tuple[float, float]:
    """Wall and CPU seconds of ``steps`` steps."""
    clock = _PartClock(step.device)
    cpu = time.process_time()
    for _ in range(steps):
        step()
    clock.lap("all")
    return clock.seconds["all"], time.process_time() - cpu


def _per_step(sample: Sample) -> tuple[float, float]:
    return sample.seconds / sample.steps, sample.cpu_seconds / sample.steps


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {part: sum(row[part] for row in rows) / len(rows) for part in PARTS}
