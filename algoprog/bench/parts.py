"""Where the time of one step goes: gather, forward, head, backward, optimiser, and what the loop adds between them.

The parts are timed in a step written out by hand from the same model, optimiser and order. The graph is cut in front of the
head, so that its forward and backward pass can be timed apart from the body's; the work stays the same. On a GPU the device is
awaited after every part, so parts are longer than in a step that runs without a stop, and the gap may be negative.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

from algoprog.bench.ways import Sample, Way
from algoprog.config import LstmConfig, RunConfig
from algoprog.data.order import make_order
from algoprog.data.store import TokenStore
from algoprog.kernels import select
from algoprog.models import build_model
from algoprog.training.engines import Engine
from algoprog.training.optim import build_optimizer, clip_gradients

PARTS = ("gather", "forward", "head", "backward", "optimiser")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class BareStep:
    """The loop's step without the loop: no metrics, no schedule, no flags. Calling it trains one step."""

    def __init__(self, config: RunConfig, store: TokenStore, engine: Engine, kernels: str = "auto") -> None:
        self.config, self.store, self.device = config, store, engine.place.device
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
        inputs, targets = (
            torch.from_numpy(array).to(self.device) for array in self.order.batch(self.store.train, self.done)
        )
        self.done += 1
        return inputs, targets

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


def loop_overhead(step: BareStep, loop: Way, rounds: int, steps: int = 10, enough: float = 0.0) -> float:
    """CPU seconds of the loop's step over those of the bare step, less one; the least of each over the rounds.

    Stops early once it is below ``enough``. CPU seconds do not count what other processes take.
    """
    bare, whole = float("inf"), float("inf")
    for _ in range(rounds):
        bare = min(bare, seconds_of(step, steps)[1] / steps)
        whole = min(whole, _per_step(loop.run(steps))[1])
        if whole / bare - 1.0 < enough:
            break
    return whole / bare - 1.0


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
