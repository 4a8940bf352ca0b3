"""How often intervals hold the truth: simulated sweeps, each analysed as a real one.

A nominal 95 % interval that holds the truth in 95 % of sweeps *covers*. Covered are the exponent of the better of two
architectures, the gap of their exponents, the log gain at the geometric centre of the compute in range, and the log loss
of the better one there. A frontier of lowest runs reaches lower losses than one run does on average, so the truth of that loss
is what such sweeps find on average; its ``bias`` tells how far that lies below the law of a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from algoprog.scaling.ceg import log_gain_new
from algoprog.scaling.errors import InputError
from algoprog.scaling.fit import fit_frontiers
from algoprog.scaling.frontier import BUDGET_TOLERANCE, final_frontier
from algoprog.scaling.intervals.bca import bca, leave_one_out
from algoprog.scaling.intervals.bootstrap import Method, bootstrap, percentiles
from algoprog.scaling.intervals.correlation import with_matches
from algoprog.scaling.intervals.likelihood import Quantity, likelihood
from algoprog.scaling.laws import LogLaw, PowerLaw
from algoprog.scaling.runs.load import final_points
from algoprog.scaling.simulate import Design, Noise, simulate_sweep

KINDS = ("bootstrap", "bca", "profile")
OF_THE_FRONTIER = "ln loss"


@dataclass(frozen=True)
class Coverage:
    """One quantity under one method: ``covered`` of ``sweeps`` intervals hold the ``truth``.

    ``interval``: 95 % Wilson interval of the coverage. ``width``: median width of the intervals; ``bias``: median
    error of the estimate; ``spread``: standard deviation of the estimates; all in the unit of the quantity.
    """

    quantity: str
    method: str
    sweeps: int
    covered: int
    width: float
    bias: float
    spread: float
    truth: float

    @property
    def share(self) -> float:
        """The coverage."""
        return self.covered / self.sweeps

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the coverage (Wilson 1927)."""
        n, p, z = self.sweeps, self.share, 1.959964
        centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        return centre - half, centre + half


def in_range_centre(old: PowerLaw, new: PowerLaw, design: Design) -> float:
    """Geometric centre (FLOPs of ``new``) of the compute at which both laws are inside the range of ``design``."""
    low, high = design.lowest, design.lowest * 10.0**design.decades
    first, last = max(low, new.compute(old.loss(low))), min(high, new.compute(old.loss(high)))
    if not first < last:
        raise InputError(
            "the two laws share no loss in range", got=f"{design.decades} decades", expected="more decades"
        )
    return math.sqrt(first) * math.sqrt(last)


def quantities(old: str, new: str, flops: float) -> dict[str, Quantity]:
    """What coverage is measured of: ``exponent``, ``gap``, ``ln gain``, and ``ln loss`` of ``new`` at ``flops``."""
    log_flops = np.asarray(math.log(flops))
    return {
        "exponent": lambda laws: laws[new].alpha,
        "gap": lambda laws: laws[new].alpha - laws[old].alpha,
        "ln gain": lambda laws: log_gain_new(laws[old], laws[new], log_flops),
        OF_THE_FRONTIER: lambda laws: np.log(laws[new].E + np.exp(laws[new].log_reducible(log_flops))),
    }


def measure_coverage(
    truth: Mapping[str, PowerLaw],
    old: str,
    new: str,
    design: Design,
    noise: Noise,
    *,
    sweeps: int,
    draws: int = 200,
    seed: int = 0,
    method: Method = "auto",
    kinds: Sequence[str] = KINDS,
    every: Callable[[int], None] | None = None,
) -> tuple[Coverage, ...]:
    """Simulate ``sweeps`` sweeps and count; one result per quantity and interval of ``kinds``.

    ``method`` as in ``bootstrap``; ``kinds`` out of ``KINDS``. ``every`` is called with the number of each finished
    sweep. A sweep whose interval does not exist does not cover. Deterministic for ``seed``.
    """
    asked = quantities(old, new, in_range_centre(truth[old], truth[new], design))
    true = {name: _at(quantity, truth) for name, quantity in asked.items()}
    found: list[dict[tuple[str, str], tuple[float, float] | None]] = []
    errors: dict[str, list[float]] = {name: [] for name in asked}
    for number in range(sweeps):
        rng = np.random.default_rng([seed, number])
        table = final_points(simulate_sweep(truth, design, noise, rng))
        estimates, intervals = _analyse(table, asked, draws, number, method, kinds)
        found.append(intervals)
        for name in asked:
            errors[name].append(estimates[name] - true[name])
        if every is not None:
            every(number + 1)
    true[OF_THE_FRONTIER] += float(np.mean(errors[OF_THE_FRONTIER]))
    return tuple(
        _summary(name, how, [one[name, how] for one in found], errors[name], true[name])
        for name in asked
        for how in kinds
    )


def _at(quantity: Quantity, laws: Mapping[str, PowerLaw]) -> float:
    vectors = {arch: LogLaw(*(np.atleast_1d(part) for part in law.parameters)) for arch, law in laws.items()}
    return float(quantity(vectors)[0])


def _analyse(
    table: pd.DataFrame, asked: Mapping[str, Quantity], draws: int, seed: int, method: Method, kinds: Sequence[str]
) -> tuple[dict[str, float], dict[tuple[str, str], tuple[float, float] | None]]:
    """Estimates by quantity, and intervals by quantity and method, of one sweep."""
    table = with_matches(table, BUDGET_TOLERANCE)
    frontier = final_frontier(table)
    fit = fit_frontiers(frontier)
    boot = bootstrap(table, draws=draws, seed=seed, method=method, fit=fit)
    jack = leave_one_out(table, fit) if "bca" in kinds else None
    profile = likelihood(frontier, fit) if "profile" in kinds else None
    estimates = {name: _at(quantity, fit.laws) for name, quantity in asked.items()}
    intervals: dict[tuple[str, str], tuple[float, float] | None] = {}
    for name, quantity in asked.items():
        values = quantity({arch: boot.law(arch) for arch in fit.archs})
        intervals[name, "bootstrap"] = percentiles(values)
        if jack is not None:
            without = quantity({arch: jack.law(arch) for arch in fit.archs})
            intervals[name, "bca"] = bca(values, estimates[name], without)
        intervals[name, "profile"] = None if profile is None else profile.interval(quantity)
    return estimates, intervals


def _summary(
    name: str, how: str, intervals: list[tuple[float, float] | None], errors: list[float], truth: float
) -> Coverage:
    covered = sum(ends is not None and ends[0] <= truth <= ends[1] for ends in intervals)
    widths = [math.inf if ends is None else ends[1] - ends[0] for ends in intervals]
    bias, spread = float(np.median(errors)), float(np.std(errors))
    return Coverage(name, how, len(intervals), covered, float(np.median(widths)), bias, spread, truth)
