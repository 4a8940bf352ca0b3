"""Our runs beside the study's figures: which folder has the data of which figure, and their analysis.

A figure takes the sweep of its name (``ablations``, ``scaling``, ``factorial``, ``allocation``), else the first one given
that holds its data. Where none does, it says why in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import pandas as pd

from algoprog.report.ablations import Ablation, ablation
from algoprog.report.numbers import Interval, flops, listed
from algoprog.report.record import dig
from algoprog.scaling import Analysis, InputError, analyse, final_frontier, final_points, fit_frontiers, load_runs
from algoprog.scaling.interactions.commands import Conversion, interactions
from algoprog.scaling.interactions.result import FactorialAnalysis
from algoprog.scaling.published import changes
from algoprog.scaling.search import Status
from algoprog.scaling.surface.study import SurfaceAnalysis, analyse_surfaces

CLASSES = ("lstm", "retro", "modern")
NEW = "modern"
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Runs:
    """One sweep's folder or table of runs. ``name``: of the sweep, else of the file; ``setting``: corpus and tokenizer."""

    path: Path
    name: str
    setting: str
    points: pd.DataFrame

    @property
    def archs(self) -> frozenset[str]:
        """Architectures with a finished run."""
        return frozenset(map(str, self.points["arch"]))

    @property
    def told(self) -> str:
        """One clause for a caption: name, corpus, tokenizer, compute."""
        low, high = float(self.points["flops"].min()), float(self.points["flops"].max())
        return f"{self.name} ({self.setting}, {flops(low)} to {flops(high)} FLOPs)"


@dataclass(frozen=True, eq=False)
class Part(Generic[T]):
    """The analysis behind one panel and its ``runs``; where there is none, ``why`` not."""

    value: T | None = None
    runs: Runs | None = None
    why: str = ""


@dataclass(frozen=True)
class OurGain:
    """A gain of ours: at ``flops`` of one budget from repeats, or ``by_laws`` of both at ``flops`` of the new one."""

    gain: float
    interval: Interval
    flops: float
    by_laws: bool


@dataclass(frozen=True, eq=False)
class Ours:
    """Everything of ours that stands beside the study. ``singles``: single changes undone, from the runs of ``ablations``."""

    laws: Part[Analysis]
    ablations: Part[Analysis]
    together: Part[FactorialAnalysis]
    allocation: Part[SurfaceAnalysis]
    singles: tuple[Ablation, ...] = ()

    def gain(self, old: str, new: str) -> OurGain | None:
        """The gain of ``new`` over ``old``, of single changes by repeats at one budget where there are any.

        Else by laws at the largest compute in range of both, from the first part that has it.
        """
        for one in self.singles:
            matched = one.matched
            if (one.old, one.new) == (old, new) and matched.gain is not None and matched.flops is not None:
                return OurGain(matched.gain, matched.interval, matched.flops, by_laws=False)
        for part in (self.ablations, self.laws):
            for pair in part.value.gains if part.value is not None else ():
                if (pair.a, pair.b) == (old, new) and (found := pair.at_largest) is not None:
                    return OurGain(found.gain, found.interval, found.flops_b, by_laws=True)
        return None


def read_ours(paths: Sequence[Path], draws: int = 1000, seed: int = 0) -> Ours:
    """Read and analyse the runs in ``paths``, of which there may be none.

    Raises InputError for one that cannot be read or has no finished run.
    """
    given = [_read(path) for path in paths]
    ablations = _ablations(given, draws, seed)
    return Ours(
        laws=_laws(given, draws, seed),
        ablations=ablations,
        together=_together(given, draws, seed),
        allocation=_allocation(given, draws, seed),
        singles=() if ablations.value is None else _singles(ablations.value),
    )


def _read(path: Path) -> Runs:
    points = final_points(load_runs(path))
    if points.empty:
        raise InputError("no finished run", where=path, remedy="run `algoprog sweep` on this folder first")
    meta = _meta(path) if path.is_dir() else {}
    corpus, tokenizer = dig(meta, "data", "corpus", "name"), dig(meta, "data", "tokenizer", "name")
    setting = f"{corpus}, {tokenizer}" if corpus and tokenizer else "corpus and tokenizer not stated"
    return Runs(path, str(dig(meta, "sweep", "name") or path.stem), setting, points)


def _meta(folder: Path) -> dict[str, object]:
    from algoprog.sweep.store import open_for_reading

    with open_for_reading(folder) as store:
        return dict(store.meta())


def _first(given: Sequence[Runs], name: str) -> list[Runs]:
    """The sweep ``name``, of any size (``name-cpu``), first; otherwise as given."""
    return sorted(given, key=lambda runs: runs.name != name and not runs.name.startswith(f"{name}-"))


def _nothing(given: Sequence[Runs], needed: str) -> str:
    """Why there is nothing to draw."""
    return f"No run of ours: {needed}." if not given else f"None of {listed([r.name for r in given])} has {needed}."


def _laws(given: Sequence[Runs], draws: int, seed: int) -> Part[Analysis]:
    ranked = sorted(_first(given, "scaling"), key=lambda runs: -len(runs.archs & set(CLASSES)))
    for runs in ranked:
        if len(runs.archs & set(CLASSES)) > 1:
            found = _analysis(runs, [("lstm", "retro"), ("lstm", "modern"), ("retro", "modern")], draws, seed)
            if set(found.fit.laws) & set(CLASSES):
                return Part(found, runs)
    return Part(why=_nothing(given, f"scaling laws of {listed(list(CLASSES))}"))


def _ablations(given: Sequence[Runs], draws: int, seed: int) -> Part[Analysis]:
    old = {change.old for change in changes.ABLATIONS}
    for runs in sorted(_first(given, "ablations"), key=lambda runs: -len(runs.archs & old)):
        if NEW in runs.archs and runs.archs & old:
            return Part(_analysis(runs, [(name, NEW) for name in sorted(runs.archs & old)], draws, seed), runs)
    return Part(why=_nothing(given, "single changes undone in modern"))


def _singles(analysis: Analysis) -> tuple[Ablation, ...]:
    """Every single change that was run; one needs a law of the new recipe alone."""
    if NEW not in analysis.fit.laws:
        return ()
    archs = set(analysis.points["arch"])
    return tuple(ablation(analysis, change.old, NEW) for change in changes.ABLATIONS if change.old in archs)


def _analysis(runs: Runs, wanted: list[tuple[str, str]], draws: int, seed: int) -> Analysis:
    """The analysis with those pairs that have a law; one without would stop it."""
    known = fit_frontiers(final_frontier(runs.points)).laws
    pairs = [pair for pair in wanted if all(arch in known for arch in pair)]
    return analyse(runs.points, draws=draws, seed=seed, pairs=pairs)


def _together(given: Sequence[Runs], draws: int, seed: int) -> Part[FactorialAnalysis]:
    factors = [f"{name}={old},{new}" for name, (old, new) in changes.FACTORS.items()]
    reason, partial = "", None
    for runs in _first(given, "factorial"):
        way = Conversion(law_runs=runs.path, law_arch=NEW)
        try:
            found = interactions(runs.path, factors, way, draws=draws, seed=seed)
        except InputError as error:  # told, and another folder may have them
            reason = reason or f"\n{runs.name}: {str(error).split(';')[0]}"
            continue
        part = Part(found, runs)
        if not found.missing:
            return part
        if found.product.predicted.gain is not None:
            partial = partial or part
    needed = "all combinations of activation, position, normalisation and schedule"
    return partial or Part(why=_nothing(given, needed) + reason)


def _allocation(given: Sequence[Runs], draws: int, seed: int) -> Part[SurfaceAnalysis]:
    reason = ""
    for runs in _first(given, "allocation"):
        points = runs.points[runs.points["arch"] == NEW]
        if points.empty or not {"params", "tokens"} <= set(points.columns):
            continue
        (found,) = analyse_surfaces(points, draws=draws, seed=seed).surfaces
        if found.fit.surface is not None and found.fit.status in (Status.CONVERGED, Status.BOUND_HIT):
            return Part(found, runs)
        reason = reason or f"\n{runs.name}: {found.fit.status.value}"
    return Part(why=_nothing(given, "a loss surface of modern over parameters and tokens") + reason)
