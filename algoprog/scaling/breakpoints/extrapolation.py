"""Does the law predict? Fit the cheap runs, predict every more expensive one, and do so for every cut.

For each cut, the law ``L = E + a C^-alpha`` is fitted to the points up to it, and every later point is predicted with
half-width ``t(n-3) sqrt(s^2 + g^T V g)``: s from the fit, V its covariance, g the gradient of the predicted ln L. A
*flag* is an error beyond the half-width. What a cut shows depends on the half-width: with four or five points hardly
anything can fail. So a cut *passes* only if it has five points or more, nothing beyond it is flagged, and the nearest
predictions, one after another, are sharper than a tolerance; its span is the last of these.

One-step errors, standardised so that they are independent under the law, add up to a CUSUM (Brown, Durbin and Evans
1975): a drift shows there before any single error does. Its limit, and how many flags chance gives, come from simulated
studies of the law fitted to all points. The limit is a constant: limits that widen like the path itself are ruled by the
few first steps and let a slow bend pass.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from algoprog.scaling.breakpoints.cuts import LEVEL, Walk, cut_sizes, walk_cuts
from algoprog.scaling.breakpoints.one_law import ArchPoints, arch_points, fit_one_law
from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import FloatArray
from algoprog.scaling.search import Status

TOLERANCE = 0.02  # half-width of ln L below which a prediction can count as a pass


class CutVerdict(enum.StrEnum):
    """``passed``: nothing flagged, and predictions sharp enough to count; ``failed``: a flag; ``too_wide``: no flag, but
    the nearest prediction is not sharp enough to have failed, or comes from fewer than five points."""

    PASSED = "passed"
    FAILED = "failed"
    TOO_WIDE = "too_wide"


@dataclass(frozen=True, eq=False)
class Cut:
    """One cut: the law of the ``n`` points up to ``flops`` against all later points, in ascending FLOPs (m,).

    ``sigma`` of ln L; ``error`` = ln L - predicted ln L; ``half_width`` at 95 %, both in ln L; ``counted``: the nearest
    predictions, one after another, sharper than the tolerance. ``fitted_decades`` of compute, ``span_decades`` from the
    cut to the last counted prediction (0 if none counts).
    """

    flops: float
    n: int
    E: float
    alpha: float
    sigma: float
    status: Status
    later_flops: FloatArray
    error: FloatArray
    half_width: FloatArray
    flagged: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    fitted_decades: float
    span_decades: float

    @property
    def verdict(self) -> CutVerdict:
        """Whether the cut passed."""
        if self.flagged.any():
            return CutVerdict.FAILED
        return CutVerdict.PASSED if self.counted.any() else CutVerdict.TOO_WIDE

    @property
    def licence_decades(self) -> float:
        """What the cut licenses: ``min(span, fitted range)`` in decades if it passed, else 0."""
        return min(self.span_decades, self.fitted_decades) if self.verdict is CutVerdict.PASSED else 0.0


@dataclass(frozen=True, eq=False)
class Cusum:
    """The sum of standardised one-step errors at ``flops`` (k,), and the ``limit`` that 95 % of whole paths respect under
    the law."""

    flops: FloatArray
    value: FloatArray
    limit: float

    @property
    def crossed(self) -> bool:
        """True if the path leaves the limits anywhere."""
        return bool(np.abs(self.value).max() > self.limit)


@dataclass(frozen=True, eq=False)
class Extrapolation:
    """All cuts of one architecture; empty ``cuts`` and no ``cusum`` if there are fewer than five points.

    ``flags_p``: how often studies of the fitted law have as many flags over all cuts (1 where there are none).
    ``tolerance`` in ln L. ``flops_range`` of all points.
    """

    arch: str
    points: pd.DataFrame
    flops_range: tuple[float, float]
    cuts: tuple[Cut, ...]
    cusum: Cusum | None
    flags_p: float
    tolerance: float
    draws: int
    seed: int

    @property
    def flags(self) -> int:
        """Flags over all cuts."""
        return sum(int(cut.flagged.sum()) for cut in self.cuts)

    @property
    def failed(self) -> tuple[Cut, ...]:
        """The cuts that failed."""
        return tuple(cut for cut in self.cuts if cut.verdict is CutVerdict.FAILED)

    @property
    def method(self) -> str:
        """How half-widths and limits were made."""
        return (
            f"least squares of ln L, half-widths t(n-3) sqrt(s^2 + g'Vg) at {LEVEL:.0%}; CUSUM limit and the chance of "
            f"flags from {self.draws} simulated studies, seed {self.seed}"
        )


def extrapolate(frontier: pd.DataFrame, tolerance: float = TOLERANCE, draws: int = 999, seed: int = 0) -> Extrapolation:
    """Predict every later point of one architecture from every cut.

    ``frontier``: rows with ``arch, flops, loss``, one point per run; ``tolerance``: half-width in ln L that a prediction
    must beat to count; ``draws``: simulated studies. Deterministic for a ``seed``.

    Raises InputError for a malformed table, several architectures, a tolerance <= 0 or draws < 19. What the data do is
    told by the verdicts.
    """
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise InputError("bad tolerance", got=tolerance, expected="a number > 0, in ln L")
    if draws < 19:
        raise InputError("too few draws", got=draws, expected="at least 19, for limits at 5 %")
    points = arch_points(frontier)
    sizes = cut_sizes(points.log_flops)
    if not sizes:
        return Extrapolation(points.arch, points.rows, points.flops_range, (), None, 1.0, tolerance, draws, seed)
    walk = walk_cuts(points.log_flops, points.log_loss[None, :], sizes, tolerance)
    simulated = walk_cuts(points.log_flops, _simulate(points, draws, seed), sizes, tolerance)
    as_many = int((simulated.flags >= walk.flags[0]).sum())
    return Extrapolation(
        arch=points.arch,
        points=points.rows,
        flops_range=points.flops_range,
        cuts=tuple(_cut(points, walk, i, sizes) for i in range(len(sizes))),
        cusum=_cusum(points, walk, simulated, sizes),
        flags_p=(1 + as_many) / (draws + 1),
        tolerance=tolerance,
        draws=draws,
        seed=seed,
    )


def _simulate(points: ArchPoints, draws: int, seed: int) -> FloatArray:
    """``draws`` data sets of the law fitted to all points; (draws, n)."""
    fit = fit_one_law(points.log_flops, points.log_loss[None, :])
    noise = np.random.default_rng(seed).standard_normal((draws, points.log_flops.size))
    return np.asarray(fit.predict(points.log_flops) + fit.sigma(points.log_flops.size)[0] * noise)


def _cut(points: ArchPoints, walk: Walk, i: int, sizes: list[int]) -> Cut:
    k, fit = sizes[i], walk.fits[i]
    log_flops, counted = points.log_flops, walk.counted[i, 0, k:]
    last = np.flatnonzero(counted)
    return Cut(
        flops=math.exp(log_flops[k - 1]),
        n=k,
        E=float(fit.e[0]),
        alpha=float(fit.alpha[0]),
        sigma=float(fit.sigma(k)[0]),
        status=fit.status[0],
        later_flops=np.exp(log_flops[k:]),
        error=walk.error[i, 0, k:],
        half_width=walk.half_width[i, 0, k:],
        flagged=walk.flagged[i, 0, k:],
        counted=counted,
        fitted_decades=float(log_flops[k - 1] - log_flops[0]) / math.log(10),
        span_decades=float(log_flops[k + last[-1]] - log_flops[k - 1]) / math.log(10) if last.size else 0.0,
    )


def _cusum(points: ArchPoints, own: Walk, simulated: Walk, sizes: list[int]) -> Cusum:
    """The path of the study, and the limit from the simulated ones."""
    path, paths = np.cumsum(own.step, axis=1)[0], np.cumsum(simulated.step, axis=1)
    limit = float(np.quantile(np.abs(paths).max(axis=1), LEVEL, method="higher"))
    return Cusum(np.exp(points.log_flops[sizes]), path, limit)
