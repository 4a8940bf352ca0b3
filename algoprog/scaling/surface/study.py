"""The whole surface analysis in one call: finished runs -> one surface per architecture, with intervals and warnings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.runs.load import excluded_runs, final_points
from algoprog.scaling.search import SMALLEST_TERM, Status
from algoprog.scaling.surface.fit import SurfaceFit, SurfaceLoss, fit_surface
from algoprog.scaling.surface.intervals import SurfaceBootstrap, bootstrap_surface
from algoprog.scaling.surface.model import PARAMETERS

COLLINEAR = 0.98
"""Correlation of ln N and ln D above which a table says little about either exponent."""


@dataclass(frozen=True, eq=False)
class SurfaceAnalysis:
    """The surface of one architecture with its intervals; ``warnings`` are sentences."""

    arch: str
    fit: SurfaceFit
    boot: SurfaceBootstrap
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class SurfaceStudy:
    """One surface per architecture, in alphabetical order; ``excluded`` counts runs that are not done, by state."""

    surfaces: tuple[SurfaceAnalysis, ...]
    excluded: dict[str, int]


def analyse_surfaces(
    points: pd.DataFrame,
    loss: SurfaceLoss = "huber",
    delta: float | None = None,
    draws: int = 1000,
    seed: int = 0,
    *,
    min_flops: float = 0.0,
    max_flops: float = math.inf,
) -> SurfaceStudy:
    """Fit ``L = E + A N^-alpha + B D^-beta`` to the last points of the finished runs of every architecture.

    ``points``: as from ``load_runs``, or any frame with ``params, tokens, loss``; without ``arch`` all rows are one
    architecture, ``all``. Other arguments as in ``fit_surface`` and ``bootstrap_surface``. Raises InputError for
    malformed points or arguments and for a table without a finished run.
    """
    excluded = excluded_runs(points)
    final = final_points(points)
    if final.empty:
        got = ", ".join(f"{count} {state}" for state, count in excluded.items()) or "no rows"
        raise InputError("no finished run to analyse", got=got, expected="runs whose state is done")
    final = final if "arch" in final else final.assign(arch="all")
    found = []
    for arch, rows in final.groupby("arch", sort=True):
        fit = fit_surface(rows, loss, delta=delta, min_flops=min_flops, max_flops=max_flops)
        boot = bootstrap_surface(fit, draws, seed)
        found.append(SurfaceAnalysis(str(arch), fit, boot, tuple(_warnings(fit, boot, excluded))))
    return SurfaceStudy(tuple(found), excluded)


def _warnings(fit: SurfaceFit, boot: SurfaceBootstrap, excluded: dict[str, int]) -> list[str]:
    found = [f"{count} {state} run{'s' if count > 1 else ''} excluded." for state, count in excluded.items()]
    found += [
        f"{count} row{'s' if count > 1 else ''} {reason} left out." for reason, count in fit.points.excluded.items()
    ]
    if fit.surface is None:
        return [*found, f"No surface could be fitted ({fit.reason})."]
    data = fit.points
    if fit.status is Status.TOO_FEW:
        found.append(
            f"Too few: {fit.runs} runs of {data.sizes} sizes, {data.token_counts} token counts and {data.budgets} budgets "
            f"for {PARAMETERS} parameters."
        )
    elif fit.status is not Status.CONVERGED:
        found.append(f"The fit did not converge cleanly: {fit.status.value}.")
    lowest = float(data.loss.min())
    if not SMALLEST_TERM * lowest <= fit.surface.E <= (1.0 - SMALLEST_TERM) * lowest:
        found.append(
            "The irreducible loss E sits at its bound: these points do not determine it, or no surface fits them."
        )
    correlation = float(np.corrcoef(data.u, data.v)[0, 1])
    if abs(correlation) > COLLINEAR:
        found.append(
            f"Parameters and tokens go together (correlation of their logarithms {correlation:.3f}): these points do not "
            "tell their exponents apart."
        )
    if fit.starts > 1 and fit.agreeing < 2:
        found.append(f"Only one of {fit.starts} starts reached the optimum.")
    return found + list(boot.warnings)
