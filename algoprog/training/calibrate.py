"""How long a step takes here: a few real steps of the real loop on random tokens."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from algoprog.config import BudgetConfig, RunConfig
from algoprog.data.store import TokenStore
from algoprog.training.engines import Engine
from algoprog.training.loop import train

TIMED_STEPS = 4


@dataclass(frozen=True)
class StepCost:
    """Seconds per training step, and the largest memory of this process so far (device memory on a GPU).

    ``losses`` are those of the timed steps, nats per token: settings of a process that change none of their bits change no run.
    """

    seconds_per_step: float
    peak_memory_bytes: int
    losses: tuple[float, ...] = ()


def time_step(config: RunConfig, engine: Engine) -> StepCost:
    """Time ``config``'s step after one warm-up step."""
    tokens_per_step = config.batch * config.model.context
    store = random_store(
        config.model.vocab, tokens_per_step + config.batch + config.model.context, config.model.context
    )
    seconds: list[float] = []
    losses: list[float] = []
    for steps in (1, TIMED_STEPS):
        short = config.model_copy(update={"budget": BudgetConfig(tokens=steps * tokens_per_step)})
        losses.clear()
        outcome = train(short, store, engine, on_metrics=lambda row: losses.append(row["loss"]))
        seconds.append(outcome.seconds["train"])
    return StepCost(seconds[-1] / TIMED_STEPS, _peak_memory_bytes(), tuple(losses))


def random_store(vocab: int, train_tokens: int, context: int) -> TokenStore:
    """A token store in memory with uniformly random ids, for timing only."""
    rng = np.random.default_rng(0)
    train_ids, validation_ids = (rng.integers(0, vocab, n, dtype=np.uint32) for n in (train_tokens, context + 1))
    return TokenStore(
        path=Path("random"),
        train=train_ids,
        validation=validation_ids,
        vocab=vocab,
        end_of_text=vocab - 1,
        fingerprint="random",
        train_bytes=train_tokens,
        validation_bytes=context + 1,
        meta={},
    )


def _peak_memory_bytes() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
