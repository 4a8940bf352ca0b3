"""What of a run's config shapes its program."""

from __future__ import annotations

from algoprog.config import RunConfig, canonical_json


def shape_of(config: RunConfig) -> str:
    """Equal for configs whose runs can share a program: not told apart by seed, learning rate, schedule, budget or label."""
    optim = config.optim.model_copy(update={"lr": 1.0})
    return f"{canonical_json(config.model)} {canonical_json(optim)} {config.batch} {config.precision}"
