"""What a run leaves: its outcome, and the metric rows on the way there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from algoprog.config import LstmConfig, RunConfig
from algoprog.data.store import TokenStore
from algoprog.flops.count import head_recompute
from algoprog.models import model_flops
from algoprog.training.budget import Work
from algoprog.training.evaluate import Score


@dataclass(frozen=True)
class Outcome:
    """What a run leaves. Losses are nats per token; a diverged run has none. FLOPs are in ``causal_exact``.

    ``train_loss`` is the mean over the last interval, for a diverged run the loss of its last good step; the steps of a
    diverged run end with the bad one. ``skipped`` counts steps that were left out because loss or gradient was not finite,
    ``deterministic`` says whether the attempt ran in that mode (:mod:`algoprog.training.determinism`).

    ``kernels`` lists the operations that ran fused and those that ran as plain PyTorch. ``flops_by_convention`` says the
    same work in every named convention, ``unspent_flops`` what the last whole step left of a FLOP budget; ``throughput``
    is that of the last attempt (:mod:`algoprog.training.throughput`). ``seconds`` are those of the last attempt by phase
    (:mod:`algoprog.training.clock`); ``execution`` says how its steps ran (:mod:`algoprog.training.execution`), where its
    tokens were (:mod:`algoprog.training.device_data`), what it did to save memory (:mod:`algoprog.training.memory`) and
    whether its program had served a run before (``warm``).
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
    skipped: int = 0
    deterministic: bool = field(default=False, compare=False)
    message: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    throughput: Mapping[str, Any] | None = field(default=None, compare=False)
    execution: Mapping[str, Any] = field(default_factory=dict, compare=False)


def metric_row(
    config: RunConfig, work: Work, step: int, loss: float, grad_norm: float, factor: float
) -> dict[str, Any]:
    """The row of the interval that ends after ``step`` steps: mean loss (nats per token) and gradient norm, last rate."""
    return {
        "step": step,
        "tokens": step * work.tokens_per_step,
        "flops": step * work.flops_per_step,
        "loss": loss,
        "grad_norm": grad_norm,
        "lr": config.optim.lr * factor,
    }


def build_outcome(
    config: RunConfig,
    store: TokenStore,
    work: Work,
    steps: int,
    epochs: float,
    kernels: Mapping[str, list[str]],
    scores: Mapping[str, Score],
    *,
    train_loss: float | None,
    trouble: str | None,
    skipped: int,
    deterministic: bool,
    seconds: Mapping[str, float],
    throughput: Mapping[str, Any] | None,
    execution: Mapping[str, Any],
    head: str = "plain",
) -> Outcome:
    """The outcome after ``steps`` steps; ``trouble`` says why a run diverged, and then there are no scores.

    ``head`` is the kind of vocabulary head that ran (:data:`algoprog.flops.count.HEADS`): what it computed twice counts as
    ``recompute``, in the convention ``hardware`` alone.
    """
    kind = config.model.evaluation if isinstance(config.model, LstmConfig) else "windowed"
    main = scores.get(kind)
    vector = model_flops(config.model, work.recompute) * (config.batch * steps)
    again = head_recompute(vector, head)
    by_convention = {name: flops * config.batch * steps for name, flops in work.sequence_flops.items()}
    by_convention["hardware"] += again.of("recompute")
    windows = math.ceil((len(store.validation) - 1) / config.model.context)
    return Outcome(
        state="diverged" if trouble else "done",
        params=work.params,
        steps=steps,
        tokens=steps * work.tokens_per_step,
        flops=vector.training_total,
        flops_vector=(vector + again if head != "plain" else vector).as_dict(),
        flops_by_convention=by_convention,
        unspent_flops=work.unspent_flops,
        evaluation_flops=work.forward_flops_per_sequence * windows * len(scores),
        epochs=epochs,
        kernels=kernels,
        loss=main.loss if main else None,
        bits_per_byte=main.loss * main.tokens / (math.log(2) * store.validation_bytes) if main else None,
        loss_windowed=scores["windowed"].loss if scores else None,
        loss_streaming=scores["streaming"].loss if "streaming" in scores else None,
        train_loss=train_loss,
        skipped=skipped,
        deterministic=deterministic,
        message=trouble,
        seconds=seconds,
        throughput=throughput,
        execution=execution,
    )
