"""The training loop, top to bottom: one run in, one outcome out.

The batch of a step is a pure function of (seed, step), the learning rate a table over steps, dropout masks a function of
(seed, step): nothing but the tensors of a checkpoint is needed to continue exactly where a run stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from algoprog.config import InputError, RunConfig
from algoprog.data.order import make_order
from algoprog.data.store import TokenStore
from algoprog.kernels import REFERENCE, Operations, Unavailable, select
from algoprog.models import build_model
from algoprog.training.budget import plan_work
from algoprog.training.checkpoint import Checkpoints
from algoprog.training.engines import Engine
from algoprog.training.evaluate import evaluate
from algoprog.training.metrics import MetricBuffer
from algoprog.training.optim import build_optimizer, operations_used
from algoprog.training.outcome import Outcome, build_outcome, metric_row
from algoprog.training.recurrent import check_ranks, share_of_rank, state_of_all
from algoprog.training.schedule import schedule_factors
from algoprog.training.step import TrainingStep
from algoprog.training.throughput import device_name, measure

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LONGEST_INTERVAL_STEPS = 50


class Stopped(Exception):
    """The run was asked to stop and has saved what it had; it continues when started again."""


def train(
    config: RunConfig,
    store: TokenStore,
    engine: Engine,
    *,
    kernels: str = "auto",
    checkpoints: Checkpoints | None = None,
    checkpoint_every_s: float = 60.0,
    on_metrics: Callable[[dict[str, Any]], None] = lambda row: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train ``config`` on ``store`` and evaluate once at the end.

    ``on_metrics`` receives a row (step, tokens, flops, loss, grad_norm, lr) per interval on rank 0. A resumed run reports
    all rows again from its first step, so that whoever listens has the whole curve even if rows were lost with the
    process. ``should_stop`` is polled per interval; when it is true the run saves and raises :class:`Stopped`.

    ``kernels`` is "auto", "reference" or "fused" (:mod:`algoprog.kernels.dispatch`). Like the device it is no part of
    the recipe, and like the device it is recorded.

    Raises:
        InputError: the budget is below one step, the data is too small for one window, or the kernels cannot run here.
        Stopped: see above.
    """
    clock = _Clock()
    work = plan_work(config)
    store.require_window(config.model.context)
    check_ranks(config, engine.place.world)
    device, rank, world = engine.place.device, engine.place.rank, engine.place.world
    operations = _operations(kernels, device, DTYPES[config.precision])
    model = build_model(config.model, config.seed, DTYPES[config.precision], operations).to(device)
    # The flat buffer of the fused AdamW is held to plain AdamW on one rank only.
    alone = engine.place.engine == "torch" and world == 1
    optimizer = build_optimizer(config.optim, model, operations if alone else REFERENCE)
    order = make_order(config.data.order, len(store.train), config.model.context, config.batch, config.seed)
    factors = schedule_factors(config.schedule, work.steps)
    interval = max(1, min(LONGEST_INTERVAL_STEPS, work.steps // 100))
    buffer = MetricBuffer(interval, engine)
    restored = checkpoints.restore(model, optimizer) if checkpoints else None
    rows = restored.rows if restored else []
    for row in rows if rank == 0 else ():
        on_metrics(row)
    step = TrainingStep(config, store, order, factors, model, optimizer, engine, buffer)
    if restored:
        step.resume(restored.step, share_of_rank(restored.carried, engine))
    first_step = step.done
    trouble: str | None = None
    train_loss: float | None = None
    last_save = time.monotonic()
    clock.lap("build")

    def body() -> bool:
        step()
        return close_interval() if step.done % interval == 0 or step.done == work.steps else True

    def close_interval() -> bool:
        nonlocal trouble, train_loss, last_save
        first = step.done - (interval if step.done % interval == 0 else step.done % interval)
        drained = buffer.drain(should_stop(), time.monotonic() - last_save > checkpoint_every_s)
        if drained.bad_step is not None:
            trouble = f"loss or gradient not finite at step {first + drained.bad_step + 1} of {work.steps}"
            return False
        train_loss = drained.loss
        rows.append(metric_row(config, work, step.done, drained.loss, drained.grad_norm, factors[step.done - 1]))
        if rank == 0:
            on_metrics(rows[-1])
        if checkpoints and step.done < work.steps and (drained.stop or drained.save):
            _save(checkpoints, step, rows)
            last_save = time.monotonic()
        if drained.stop and step.done < work.steps:
            raise Stopped(f"stopped at step {step.done} of {work.steps}")
        return True

    engine.drive(body, work.steps - step.done)
    clock.lap("train")
    scores = {} if trouble else evaluate(model, config.model, store.validation, engine)
    clock.lap("evaluate")
    if scores and not all(math.isfinite(score.loss) for score in scores.values()):
        trouble, scores = "validation loss not finite", {}
    speed = measure(config, device_name(device), world, step.done - first_step, clock.seconds["train"])
    return build_outcome(
        config,
        store,
        work,
        step.done,
        order.epochs(step.done),
        operations_used(operations, optimizer),
        scores,
        train_loss=train_loss,
        trouble=trouble,
        seconds=clock.seconds,
        throughput=speed.as_json() if speed else None,
    )


def _operations(kernels: str, device: torch.device, dtype: torch.dtype) -> Operations:
    try:
        return select(kernels, device, dtype)
    except Unavailable as problem:
        raise InputError(str(problem), where="--kernels") from None


def _save(checkpoints: Checkpoints, step: TrainingStep, rows: list[dict[str, Any]]) -> None:
    whole = state_of_all(step.carried, step.engine)
    if step.engine.place.rank == 0:
        checkpoints.save(step.done, step.model, step.optimizer, whole, rows)
    step.engine.fence()


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, phase: str) -> None:
        now = time.monotonic()
        self.seconds[phase] = now - self._last
        self._last = now
