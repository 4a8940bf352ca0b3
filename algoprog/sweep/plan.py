"""From a sweep to a list of runs with exact work: pure, nothing is started.

A learning-rate search makes its later runs from the losses of the earlier ones: see :func:`next_runs`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from algoprog.config import (
    BudgetConfig,
    DataConfig,
    InputError,
    RunConfig,
    canonical_json,
    unknown_key,
)
from algoprog.recipes import is_plugin, is_recipe_file, label_of, merge, preset_names, resolve
from algoprog.sweep.lr_search import Losses, Search
from algoprog.sweep.sweep_file import Grid, SweepConfig
from algoprog.sweep.tuner import Tuner
from algoprog.training.budget import Work, plan_work
from algoprog.training.shape import shape_of

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class PlannedRun:
    """A run with its exact work; its name follows from the config and the data's fingerprint."""

    config: RunConfig
    work: Work

    def row(self, fingerprint: str) -> dict[str, Any]:
        """The row that the store keeps."""
        config = self.config
        return {
            "digest": config.digest(fingerprint),
            "arch": config.arch,
            "width": config.model.width,
            "seed": config.seed,
            "config": canonical_json(config),
            "params": self.work.params,
            "steps": self.work.steps,
            "tokens": self.work.tokens,
            "flops": self.work.flops,
        }

    @property
    def group(self) -> str:
        """Eight hex digits, equal for runs that share what a worker builds."""
        return hashlib.sha256(shape_of(self.config).encode()).hexdigest()[:8]

    @property
    def shape(self) -> tuple[object, ...]:
        """Runs of equal shape take equal time per step."""
        return (self.config.arch, self.config.model, self.config.batch, self.config.precision)


def expand(sweep: SweepConfig, precision: Precision, where: object = "sweep") -> list[PlannedRun]:
    """Every run that can be planned before the first one is finished, once, in the order of the grids.

    Raises:
        InputError: a grid's values do not make a valid run, or a budget is below one step.
    """
    runs = next_runs(sweep, precision, {}, where)
    known = {label_of(label) for grid in sweep.grids for label in grid.arch}
    for pair in sweep.compare:
        for arch in pair:
            if arch not in known:
                raise unknown_key(arch, sorted(known), where=f"{where}: compare", kind="architecture")
    return runs


def next_runs(sweep: SweepConfig, precision: Precision, losses: Losses, where: object = "sweep") -> list[PlannedRun]:
    """The runs to do when ``losses`` are known, once each; those of plain grids are always among them.

    Raises:
        InputError: see :func:`expand`.
    """
    runs: dict[str, PlannedRun] = {}
    for number, grid in enumerate(sweep.grids, 1):
        for config in _of_grid(sweep, grid, precision, losses, f"{where}: grid {number}"):
            runs.setdefault(canonical_json(config), PlannedRun(config, plan_work(config)))
    return list(runs.values())


def may_start(sweep: SweepConfig, runs: list[PlannedRun], losses: Losses) -> list[PlannedRun]:
    """Those of ``runs`` that need not wait: while a small one has not ended, these are the ones below ``predict_from``."""
    if sweep.predict_from is None:
        return runs
    small = [run for run in runs if run.work.flops < sweep.predict_from]
    return runs if all(canonical_json(run.config) in losses for run in small) else small


def _of_grid(sweep: SweepConfig, grid: Grid, precision: Precision, losses: Losses, where: str) -> Iterator[RunConfig]:
    for label, width, budget in itertools.product(grid.arch, grid.width, grid.budgets()):
        make = partial(_run, sweep, grid, label, width, budget, precision, where)
        rates: Sequence[float | None] = [grid.lr_law.at(width)] if grid.lr_law else grid.lr or [None]
        if grid.tune is not None:
            lr = None if "optim.lr" in grid.tune.space else rates[0]
            yield from Tuner(grid.tune, grid.seed, lambda found, seed: make(lr, seed, found)).next(losses)  # noqa: B023
        elif grid.lr_search is None:
            yield from (make(lr, seed) for lr, seed in itertools.product(rates, grid.seed))
        else:
            centre = rates[0] or make(None, grid.seed[0]).optim.lr
            yield from Search(grid.lr_search, centre, grid.seed, make).next(losses)


def _run(
    sweep: SweepConfig,
    grid: Grid,
    label: str,
    width: int,
    budget: BudgetConfig,
    precision: Precision,
    where: str,
    lr: float | None,
    seed: int,
    found: Mapping[str, Any] = MappingProxyType({}),
) -> RunConfig:
    variant = sweep.variants.get(label)
    if variant is None and not (label in preset_names() or is_plugin(label) or is_recipe_file(label)):
        raise unknown_key(label, sorted([*sweep.variants, *preset_names()]), where=where, kind="architecture")
    own = variant.settings if variant else {}
    run = resolve(
        variant.arch if variant else label, width, budget, data=sweep.data.model_dump(exclude_unset=True),
        lr=lr, seed=seed, precision=precision, where=where,
        overrides=merge(merge(merge(sweep.settings, own), grid.settings), found),
    )  # fmt: skip
    return run if variant is None else run.model_copy(update={"arch": label})


def check_data(runs: list[PlannedRun], data: DataConfig) -> None:
    """All runs of a sweep read the tokens of its ``data`` block.

    Raises:
        InputError: a run overrides corpus, tokenizer or document seed.
    """
    for run in runs:
        mine = run.config.data
        if (mine.corpus, mine.tokenizer, mine.seed) != (data.corpus, data.tokenizer, data.seed):
            raise InputError(
                f"{run.config.arch} at width {run.config.model.width} reads other data than its sweep",
                got=f"{mine.corpus}, {mine.tokenizer}",
                expected=f"{data.corpus}, {data.tokenizer}",
                remedy="losses are comparable only on one validation split; make it a sweep of its own",
            )
