"""How compute is best divided between parameters and tokens: per architecture the optimal size, by surface and by slices.

Asked only of architectures with enough sizes at enough budgets: a slice has a vertex from three sizes on, one more gives it a
residual, and a surface needs three budgets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from algoprog.report.kaplan_policy import drawn_surfaces, our_policy
from algoprog.report.numbers import Interval, count, digits, flops, with_interval
from algoprog.scaling import (
    Analysis,
    InputError,
    Isoflop,
    IsoflopBootstrap,
    SurfaceAnalysis,
    analyse_surfaces,
    bootstrap_isoflop,
    isoflop_slices,
)
from algoprog.scaling.allocation import AllocationGain, AllocationSpread, allocation_spread
from algoprog.scaling.frontier import budget_groups
from algoprog.scaling.intervals.bootstrap import percentiles
from algoprog.scaling.isoflop.checks import FLAGS, LEAST_SIZES
from algoprog.scaling.search import Status
from algoprog.scaling.surface.fit import LEAST_BUDGETS
from algoprog.scaling.surface.lack_of_fit import lack_of_fit
from algoprog.scaling.tuning.searches import without_search

BUDGETS, SIZES = LEAST_BUDGETS, LEAST_SIZES + 1
SURFACE, SLICES = "surface", "slices"
REJECTED = 0.01  # p below which repeats rule the surface out


@dataclass(frozen=True)
class Way:
    """The growth of the optimal size N* by one way, ``surface`` or ``slices``.

    ``a``: exponent of N* in compute, with ``interval``; ``ratio``: tokens per parameter D*/N* at ``flops``, with
    ``ratio_interval``, None where that budget has no minimum. ``rests_on``: in words; ``doubt``: why nothing is read off it,
    empty where something may be.
    """

    name: str
    a: float
    interval: Interval
    flops: float
    ratio: float | None
    ratio_interval: Interval
    rests_on: str
    doubt: str


@dataclass(frozen=True)
class Waste:
    """Compute spent under Kaplan's exponent over the optimal compute for the same loss, ``flops`` spent under it."""

    flops: float
    found: AllocationSpread


@dataclass(frozen=True, eq=False)
class Fits:
    """The fits to the runs of one architecture: its ``surface``, its ``slices`` and the draws of these."""

    surface: SurfaceAnalysis
    slices: Isoflop
    boot: IsoflopBootstrap

    @property
    def level(self) -> float:
        """Confidence level of every interval."""
        return self.surface.boot.level

    @property
    def flops_range(self) -> tuple[float, float]:
        """Cheapest and dearest budget."""
        return self.slices.slices[0].flops, self.slices.slices[-1].flops

    @property
    def conversion(self) -> tuple[float, float]:
        """Lowest and highest C/(6 N D) of the runs, by the FLOPs counted."""
        data = self.slices.points
        turned = data.flops / (data.flops_per_param_token * data.params * data.tokens)
        return float(turned.min()), float(turned.max())

    @property
    def drawn(self) -> bool:
        """Whether there is a slice to draw."""
        return any(math.isfinite(one.params) for one in self.slices.slices)


@dataclass(frozen=True, eq=False)
class OptimalSize:
    """What the runs of ``arch`` say about the optimal size.

    ``fits``: None where the runs cannot be fitted. ``ways`` is empty where no fit gives an exponent, ``why`` says the reason.
    ``waste``: at the cheapest and the dearest budget, empty without a surface to measure it on. ``warnings`` are sentences.
    """

    arch: str
    fits: Fits | None
    ways: tuple[Way, ...]
    waste: tuple[Waste, ...]
    warnings: tuple[str, ...]
    why: str = ""


def optimal_sizes(analysis: Analysis, draws: int, seed: int = 0) -> tuple[OptimalSize, ...]:
    """The answer of every architecture of ``analysis`` that has the sizes for it, by name; runs that a search of the learning
    rate did not choose are left out.
    """
    points = analysis.points
    if not {"params", "tokens"} <= set(points.columns):
        return ()
    tuned = without_search(points)
    asked = {str(arch): rows for arch, rows in tuned.groupby("arch", sort=True) if answerable(rows)}
    every = points["arch"].value_counts()
    return tuple(_answer(arch, rows, int(every[arch]), draws, seed) for arch, rows in asked.items())


def answerable(rows: pd.DataFrame) -> bool:
    """Whether runs of one architecture hold at least three budgets with at least four distinct sizes each."""
    known = rows[rows["params"].notna() & rows["tokens"].notna()].sort_values("flops")
    groups = budget_groups(known["flops"].to_numpy(dtype=np.float64))
    sizes = known["params"].groupby(groups).nunique()
    return int((sizes >= SIZES).sum()) >= BUDGETS


def _answer(arch: str, rows: pd.DataFrame, every: int, draws: int, seed: int) -> OptimalSize:
    try:
        (surface,) = analyse_surfaces(rows, draws=draws, seed=seed).surfaces
        slices = isoflop_slices(rows)
        fits = Fits(surface, slices, bootstrap_isoflop(slices, draws, seed))
    except InputError as error:
        return OptimalSize(arch, None, (), (), (), str(error))
    ways = tuple(way for way in (_by_surface(fits), _by_slices(fits)) if way is not None)
    told = [*surface.warnings, *_misfit(surface), *_slice_warnings(fits), *_disagreements(ways)]
    if every > len(rows):
        told.append(f"{count(every - len(rows), 'run')} at rates that a search did not choose left out.")
    why = "" if ways else f"no surface could be fitted ({surface.fit.reason})"
    return OptimalSize(arch, fits, ways, _wastes(fits), tuple(told), why)


def _centre(slices: Isoflop) -> int:
    """The number of the middle budget, of two the cheaper one."""
    return (len(slices.slices) - 1) // 2


def _by_surface(fits: Fits) -> Way | None:
    found, slices = fits.surface, fits.slices
    surface, boot = found.fit.surface, found.boot
    if surface is None:
        return None
    at = slices.slices[_centre(slices)].flops
    n, d = surface.optimal(at)
    sizes = [one.optimal(at) for one in drawn_surfaces(found)]
    ends = percentiles(np.array([tokens / params for params, tokens in sizes]), boot.level)
    doubt = "" if found.fit.status is Status.CONVERGED else f"the fit ended as {_plain(found.fit.status)}"
    if not doubt and boot.unstable:
        doubt = f"{boot.not_converged} of {boot.draws} draws did not converge"
    rests_on = f"{count(found.fit.runs, 'run')}, fit {_plain(found.fit.status)}"
    return Way(SURFACE, surface.a_N, boot.intervals.get("a_N"), at, d / n, ends, rests_on, doubt)


def _by_slices(fits: Fits) -> Way | None:
    slices, boot, status = fits.slices, fits.boot, fits.surface.fit.status
    if slices.allocation is None:
        return None
    middle = slices.slices[_centre(slices)]
    ratio = middle.tokens / middle.params if middle.used else None
    ends = boot.params_interval(slices.used.index(middle)) if middle.used else None
    k = slices.points.flops_per_param_token
    between = None if ends is None else (middle.flops / (k * ends[1] ** 2), middle.flops / (k * ends[0] ** 2))
    doubt = ""
    if len(slices.used) < BUDGETS:
        doubt = f"only {count(len(slices.used), 'budget')} {'counts' if len(slices.used) == 1 else 'count'}"
    elif boot.unstable:
        doubt = f"{boot.failed} of {boot.draws} draws have no line"
    elif status is not Status.CONVERGED:
        doubt = f"their shape comes from a fit that ended as {_plain(status)}"
    rests_on = f"{len(slices.used)} of {count(len(slices.slices), 'budget')}"
    return Way(SLICES, slices.allocation.a, boot.intervals["a"], middle.flops, ratio, between, rests_on, doubt)


def _plain(status: Status) -> str:
    return status.value.replace("_", " ")


def _wastes(fits: Fits) -> tuple[Waste, ...]:
    """At the cheapest and at the dearest budget; none where the surface is no optimum of its fit."""
    surface = fits.surface.fit.surface
    if surface is None or fits.surface.fit.status not in (Status.CONVERGED, Status.BOUND_HIT):
        return ()
    gain, drawn = AllocationGain(surface, our_policy(surface, *fits.flops_range)), drawn_surfaces(fits.surface)
    return tuple(Waste(at, allocation_spread(gain, at, draws=drawn, level=fits.level)) for at in fits.flops_range)


def _misfit(found: SurfaceAnalysis) -> list[str]:
    """Whether repeats rule out that the surface describes these runs."""
    test = lack_of_fit(found.fit)
    if test is None or test.p >= REJECTED:
        return []
    where = count(test.cells, "combination") + " of size and tokens"
    return [
        f"The surface does not describe these runs: it misses the mean losses of {where} by {digits(100 * test.misses, 2)} % "
        f"(root mean square), while repeated runs scatter by {digits(100 * test.repeats, 2)} % (lack of fit: F "
        f"{digits(test.f)}, p {digits(test.p, 2)}). Its intervals take such misses for noise, and its shape enters the slices."
    ]


def _slice_warnings(fits: Fits) -> list[str]:
    slices, boot = fits.slices, fits.boot
    told = list(slices.warnings)
    for one in slices.slices:
        if one.flags:
            wrong = "; ".join(FLAGS[flag] for flag in one.flags)
            told.append(f"Slice of {flops(one.flops)} FLOPs{'' if one.used else ', left out'}: {wrong}.")
    if boot.failed:
        unstable = ", so the intervals of the slices are unstable" if boot.unstable else ""
        told.append(f"{boot.failed} of {boot.draws} draws of the slices have no line of optimal sizes{unstable}.")
    return told


def _disagreements(ways: tuple[Way, ...]) -> list[str]:
    """What the two ways find outside each other's interval."""
    if len(ways) < 2:
        return []
    one, two = ways
    compared = {
        "the exponent of N*": ((one.a, one.interval), (two.a, two.interval)),
        "tokens per parameter": ((one.ratio, one.ratio_interval), (two.ratio, two.ratio_interval)),
    }
    return [
        f"Surface and slices disagree about {what}: {with_interval(x, a)} and {with_interval(y, b)}, each outside the "
        "interval of the other; the surface may not describe these runs."
        for what, ((x, a), (y, b)) in compared.items()
        if x is not None and y is not None and a and b and not (a[0] <= y <= a[1] or b[0] <= x <= b[1])
    ]
