"""A search over many settings at once, by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011).

Trials are asked for a few at a time, run, told, and the next ones asked for. Optuna is replayed from its seed, so what
comes next is a pure function of the losses known so far and an interrupted search goes on where it stopped. At the end the
best settings are run with every seed of the grid; the search itself uses the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, model_validator

from algoprog.config import Count, Frozen, InputError, RunConfig, canonical_json
from algoprog.sweep.lr_search import Losses

DIVERGED_LOSS = 100.0
"""What Optuna is told of a diverged run, in nats per token: worse than any that did not."""


class Interval(Frozen):
    """Numbers from ``low`` to ``high``, even in their logarithm if ``log``."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"low {self.low} and high {self.high} make no interval")
        return self


class Tuning(Frozen):
    """``trials`` in all, ``together`` at a time. ``space``: config keys (``optim.lr``) to an interval or a list of values."""

    space: dict[str, Interval | list[Any]] = Field(min_length=1)
    trials: Count = 40
    together: Count = 4
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True)
class Tuner:
    """The search of one architecture at one width and budget; ``make(settings, seed)`` gives the run."""

    rule: Tuning
    seeds: Sequence[int]
    make: Callable[[Mapping[str, Any], int], RunConfig]

    def next(self, losses: Losses) -> list[RunConfig]:
        """Runs to do now; empty when the search is over.

        Raises:
            InputError: Optuna is not installed, or settings of the space do not make a run.
        """
        study, space = _study(self.rule)
        for start in range(0, self.rule.trials, self.rule.together):
            asked = [study.ask(space) for _ in range(min(self.rule.together, self.rule.trials - start))]
            runs = [self.make(nested(trial.params), self.seeds[0]) for trial in asked]
            missing = [run for run in runs if canonical_json(run) not in losses]
            if missing:
                return missing
            for trial, run in zip(asked, runs, strict=True):
                study.tell(trial, min(losses[canonical_json(run)], DIVERGED_LOSS))
        best = nested(study.best_params)
        runs = [self.make(best, seed) for seed in self.seeds]
        return [run for run in runs if canonical_json(run) not in losses]


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``{"optim.lr": 0.1}`` as ``{"optim": {"lr": 0.1}}``; floats to four significant digits, as they stand in a run's name."""
    values: dict[str, Any] = {}
    for key, value in settings.items():
        *groups, last = key.split(".")
        place = values
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = float(f"{value:.4g}") if isinstance(value, float) else value
    return values


def _study(rule: Tuning) -> tuple[Any, dict[str, Any]]:
    try:
        import optuna
    except ModuleNotFoundError:
        raise InputError(
            "a grid with `tune` needs Optuna, which is not installed", remedy='pip install "algoprog[tune]"'
        ) from None
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=rule.seed, n_startup_trials=max(10, rule.trials // 4))
    space = {
        key: FloatDistribution(part.low, part.high, log=part.log)
        if isinstance(part, Interval)
        else CategoricalDistribution(part)
        for key, part in rule.space.items()
    }
    return optuna.create_study(sampler=sampler), space
