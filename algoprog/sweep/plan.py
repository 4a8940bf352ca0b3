"""From a sweep file to a list of runs with exact work: pure, nothing is started.

A sweep file::

    name: demo
    data: {corpus: sotu, tokenizer: bpe-1024}
    settings: {batch: 16}                  # overrides for every run, any config key
    grids:                                 # every grid is the product of its lists
      - arch: [modern, retro]
        width: [32, 64]
        flops: [1e11, 1e12]                # or tokens: or tokens_per_param:
        lr: [0.003, 0.01]                  # optional, or lr_law: {coefficient: 0.1, exponent: -0.7}; default: the preset's
        seed: [0, 1]                       # optional
        settings: {model: {depth: 2}}      # optional overrides for this grid
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from algoprog.config import (
    BudgetConfig,
    Count,
    DataConfig,
    Frozen,
    InputError,
    Positive,
    RunConfig,
    canonical_json,
    parse,
    read_yaml,
    unknown_key,
)
from algoprog.recipes import CONFIGS, LrLaw, merge, resolve
from algoprog.training.budget import Work, plan_work

Precision = Literal["fp32", "bf16"]


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _several(item: Any) -> Any:
    return Annotated[list[item], BeforeValidator(_as_list), Field(min_length=1)]


class Grid(Frozen):
    """The product of its lists; exactly one kind of budget."""

    arch: _several(str)  # type: ignore[valid-type]
    width: _several(Count)  # type: ignore[valid-type]
    flops: _several(Count) | None = None  # type: ignore[valid-type]
    tokens: _several(Count) | None = None  # type: ignore[valid-type]
    tokens_per_param: _several(Positive) | None = None  # type: ignore[valid-type]
    lr: _several(Positive) | None = None  # type: ignore[valid-type]
    lr_law: LrLaw | None = None
    seed: _several(int) = [0]  # type: ignore[valid-type]
    settings: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_kind_of_budget(self) -> Grid:
        given = [kind for kind in ("flops", "tokens", "tokens_per_param") if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of flops, tokens, tokens_per_param; got {', '.join(given) or 'none'}")
        if self.lr is not None and self.lr_law is not None:
            raise ValueError("give lr or lr_law, not both")
        return self

    def budgets(self) -> list[BudgetConfig]:
        for kind in ("flops", "tokens", "tokens_per_param"):
            values = getattr(self, kind)
            if values is not None:
                return [BudgetConfig(**{kind: value}) for value in values]
        raise AssertionError("validated above")


class SweepConfig(Frozen):
    """A named plan of runs on one corpus and tokenizer. ``compare`` lists pairs [old, new] for which gains are reported."""

    name: str
    description: str = ""
    data: DataConfig
    settings: dict[str, Any] = {}
    grids: list[Grid] = Field(min_length=1)
    compare: list[tuple[str, str]] = []


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
    def shape(self) -> tuple[object, ...]:
        """Runs of equal shape take equal time per step."""
        return (self.config.arch, self.config.model, self.config.batch, self.config.precision)


def load_sweep(path: str | Path) -> SweepConfig:
    """Read a sweep file, or a shipped one by name (``configs/sweep/NAME.yaml``).

    Raises:
        InputError: the file is missing or malformed, or a key is unknown (the nearest one is named).
    """
    shipped = sorted(file.stem for file in (CONFIGS / "sweep").glob("*.yaml"))
    if str(path) in shipped:
        path = CONFIGS / "sweep" / f"{path}.yaml"
    elif not Path(path).exists() and Path(path).suffix not in (".yaml", ".yml"):
        raise unknown_key(str(path), shipped, where="SWEEP", kind="sweep")
    return parse(SweepConfig, read_yaml(path), path)


def expand(sweep: SweepConfig, precision: Precision, where: object = "sweep") -> list[PlannedRun]:
    """Every run of the sweep once, in the order of its grids.

    Raises:
        InputError: a grid's values do not make a valid run, or a budget is below one step.
    """
    runs: dict[str, PlannedRun] = {}
    for number, grid in enumerate(sweep.grids, 1):
        for config in _expand_grid(sweep, grid, precision, f"{where}: grid {number}"):
            runs.setdefault(canonical_json(config), PlannedRun(config, plan_work(config)))
    known = {run.config.arch for run in runs.values()}
    for pair in sweep.compare:
        for arch in pair:
            if arch not in known:
                raise unknown_key(arch, sorted(known), where=f"{where}: compare", kind="architecture")
    return list(runs.values())


def _expand_grid(sweep: SweepConfig, grid: Grid, precision: Precision, where: str) -> list[RunConfig]:
    overrides = merge(sweep.settings, grid.settings)
    lrs: Sequence[float | None] = grid.lr or [None]
    return [
        resolve(
            arch, width, budget, data=sweep.data.model_dump(exclude_unset=True),
            lr=grid.lr_law.at(width) if grid.lr_law else lr, seed=seed,
            precision=precision, overrides=overrides, where=where,
        )
        for arch, width, budget, lr, seed in itertools.product(grid.arch, grid.width, grid.budgets(), lrs, grid.seed)
    ]  # fmt: skip


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
