"""The training loop, top to bottom: one run in, one outcome out.

The batch of a step is a pure function of (seed, step), the learning rate a table over steps, dropout masks a function of
(seed, step): nothing but the tensors of a checkpoint is needed to continue exactly where a run stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from algoprog.config import InputError, LstmConfig, RunConfig
from algoprog.data.order import Order, make_order, reset_draw
from algoprog.data.store import TokenStore
from algoprog.kernels import REFERENCE, Operations, Unavailable, select
from algoprog.models import build_model, model_flops
from algoprog.training.budget import Work, plan_work
from algoprog.training.checkpoint import Carried, Checkpoints
from algoprog.training.engines import Engine
from algoprog.training.evaluate import Score, evaluate
from algoprog.training.metrics import MetricBuffer
from algoprog.training.optim import build_optimizer, clip_gradients, operations_used, set_lr
from algoprog.training.schedule import schedule_factors
from algoprog.training.throughput import device_name, measure

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LONGEST_INTERVAL_STEPS = 50


class Stopped(Exception):
    """The run was asked to stop and has saved what it had; it continues when started again."""


@dataclass(frozen=True)
class Outcome:
    """What a run leaves. Losses are nats per token; a diverged run has none. FLOPs are in ``causal_exact``.

    ``kernels`` lists the operations that ran fused and those that ran as plain PyTorch. ``flops_by_convention`` says the
    same work in every named convention, ``unspent_flops`` what the last whole step left of a FLOP budget; ``throughput``
    is that of the last attempt (:mod:`algoprog.training.throughput`).
    """

    state: str
    params: int
    steps: int
    tokens: int
    flops: int
    flops_vector: Mapping[str, Mapping[str, int]]
    flops_by_convention: Mapping[str, int]
    unspent_flops: int | None
    evaluation_flops: int
    epochs: float
    kernels: Mapping[str, list[str]]
    loss: float | None = None
    bits_per_byte: float | None = None
    loss_windowed: float | None = None
    loss_streaming: float | None = None
    train_loss: float | None = None
    message: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    throughput: Mapping[str, Any] | None = field(default=None, compare=False)


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
    _check_ranks(config, engine)
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
    step = first_step = restored.step if restored else 0
    rows = restored.rows if restored else []
    for row in rows if rank == 0 else ():
        on_metrics(row)
    carried = _share_of_rank(restored.carried if restored else None, engine)
    call = engine.adopt(model, optimizer)
    trouble: str | None = None
    train_loss: float | None = None
    last_save = time.monotonic()
    clock.lap("build")

    def body() -> bool:
        nonlocal step, carried
        inputs, targets = (torch.from_numpy(a).to(device) for a in order.batch(store.train, step, rank, world))
        if _forgets(config, order, step):
            carried = None
        loss_sum, after = call(inputs, targets, carried, _mask_generator(config, step, engine))
        loss = loss_sum / targets.numel()
        engine.backward(loss)
        norm = clip_gradients(config.optim, optimizer, model)
        set_lr(optimizer, config.optim.lr * factors[step])
        engine.update()
        carried = after if isinstance(config.model, LstmConfig) and config.model.carry_state else None
        buffer.record(loss.detach(), norm)
        step += 1
        return close_interval() if step % interval == 0 or step == work.steps else True

    def close_interval() -> bool:
        nonlocal trouble, train_loss, last_save
        first = step - (interval if step % interval == 0 else step % interval)
        drained = buffer.drain(should_stop(), time.monotonic() - last_save > checkpoint_every_s)
        if drained.bad_step is not None:
            trouble = f"loss or gradient not finite at step {first + drained.bad_step + 1} of {work.steps}"
            return False
        train_loss = drained.loss
        rows.append(_row(config, work, step, drained.loss, drained.grad_norm, factors[step - 1]))
        if rank == 0:
            on_metrics(rows[-1])
        if checkpoints and step < work.steps and (drained.stop or drained.save):
            _save(checkpoints, step, model, optimizer, carried, rows, engine)
            last_save = time.monotonic()
        if drained.stop and step < work.steps:
            raise Stopped(f"stopped at step {step} of {work.steps}")
        return True

    engine.drive(body, work.steps - step)
    clock.lap("train")
    scores = {} if trouble else evaluate(model, config.model, store.validation, engine)
    clock.lap("evaluate")
    if scores and not all(math.isfinite(score.loss) for score in scores.values()):
        trouble, scores = "validation loss not finite", {}
    kinds = operations_used(operations, optimizer)
    speed = measure(config, device_name(device), world, step - first_step, clock.seconds["train"])
    return replace(
        _outcome(config, store, work, step, order.epochs(step), kinds, scores, train_loss, trouble, clock.seconds),
        throughput=speed.as_json() if speed else None,
    )


def _operations(kernels: str, device: torch.device, dtype: torch.dtype) -> Operations:
    try:
        return select(kernels, device, dtype)
    except Unavailable as problem:
        raise InputError(str(problem), where="--kernels") from None


def _check_ranks(config: RunConfig, engine: Engine) -> None:
    """Dropout masks are drawn per rank, so with dropout a run would depend on the number of ranks: refuse that."""
    if engine.place.world > 1 and isinstance(config.model, LstmConfig) and config.model.dropout > 0:
        raise InputError(
            "dropout on several ranks would change the run", got=f"{engine.place.world} ranks", expected="1"
        )


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, phase: str) -> None:
        now = time.monotonic()
        self.seconds[phase] = now - self._last
        self._last = now


def _forgets(config: RunConfig, order: Order, step: int) -> bool:
    """Whether the recurrent state starts from zero at this step: a stream starts over, or the random reset strikes."""
    if not isinstance(config.model, LstmConfig):
        return False
    return order.starts_fresh(step) or reset_draw(config.seed, step) < config.model.reset_probability


def _mask_generator(config: RunConfig, step: int, engine: Engine) -> torch.Generator | None:
    if not isinstance(config.model, LstmConfig) or config.model.dropout == 0:
        return None
    return torch.Generator(engine.place.device).manual_seed(config.seed * 1_000_003 + step)


def _share_of_rank(carried: Carried, engine: Engine) -> Carried:
    """This rank's rows of the global batch's state ([1, B, D] each), on its device."""
    place = engine.place
    if carried is None:
        return None
    return [
        (h.chunk(place.world, 1)[place.rank].to(place.device), c.chunk(place.world, 1)[place.rank].to(place.device))
        for h, c in carried
    ]


def _state_of_all(carried: Carried, engine: Engine) -> Carried:
    """The global batch's state on every rank: each contributes its rows to a sum of zero-padded parts."""
    place = engine.place
    if carried is None or place.world == 1:
        return carried

    def gather(part: torch.Tensor) -> torch.Tensor:
        rows = [torch.zeros_like(part) for _ in range(place.world)]
        rows[place.rank] = part
        return engine.sum_over_ranks(torch.cat(rows, dim=1))

    return [(gather(h), gather(c)) for h, c in carried]


def _save(
    checkpoints: Checkpoints,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    carried: Carried,
    rows: list[dict[str, Any]],
    engine: Engine,
) -> None:
    whole = _state_of_all(carried, engine)
    if engine.place.rank == 0:
        checkpoints.save(step, model, optimizer, whole, rows)
    engine.fence()


def _row(config: RunConfig, work: Work, step: int, loss: float, grad_norm: float, factor: float) -> dict[str, Any]:
    return {
        "step": step,
        "tokens": step * work.tokens_per_step,
        "flops": step * work.flops_per_step,
        "loss": loss,
        "grad_norm": grad_norm,
        "lr": config.optim.lr * factor,
    }


def _outcome(
    config: RunConfig,
    store: TokenStore,
    work: Work,
    steps: int,
    epochs: float,
    kernels: dict[str, list[str]],
    scores: dict[str, Score],
    train_loss: float | None,
    trouble: str | None,
    seconds: dict[str, float],
) -> Outcome:
    kind = config.model.evaluation if isinstance(config.model, LstmConfig) else "windowed"
    main = scores.get(kind)
    vector = model_flops(config.model) * (config.batch * steps)
    windows = math.ceil((len(store.validation) - 1) / config.model.context)
    return Outcome(
        state="diverged" if trouble else "done",
        params=work.params,
        steps=steps,
        tokens=steps * work.tokens_per_step,
        flops=vector.training_total,
        flops_vector=vector.as_dict(),
        flops_by_convention={name: flops * config.batch * steps for name, flops in work.sequence_flops.items()},
        unspent_flops=work.unspent_flops,
        evaluation_flops=work.forward_flops_per_sequence * windows * len(scores),
        epochs=epochs,
        kernels=kernels,
        loss=main.loss if main else None,
        bits_per_byte=main.loss * main.tokens / (math.log(2) * store.validation_bytes) if main else None,
        loss_windowed=scores["windowed"].loss if scores else None,
        loss_streaming=scores["streaming"].loss if "streaming" in scores else None,
        train_loss=train_loss,
        message=trouble,
        seconds=seconds,
    )
