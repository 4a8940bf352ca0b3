"""Points of (N, D, loss) -> the surface ``L = E + A N^-alpha + B D^-beta``, from twelve starts or more.

The default objective is Huber's function of ``ln L - ln L_hat`` with knee 1.345 sigma_hat (Huber 1964), sigma_hat =
1.4826 MAD of a first least-squares fit. A small knee such as the published 1e-3 is nearly least absolute deviations.
A bad fit is a status, never an exception.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.fit import ROUNDING, robust_scale
from algoprog.scaling.laws import FloatArray
from algoprog.scaling.search import Status
from algoprog.scaling.surface.law import FLOPS_PER_PARAM_TOKEN, Surface
from algoprog.scaling.surface.model import PARAMETERS, SurfaceProblem, residuals
from algoprog.scaling.surface.points import SurfacePoints, surface_points
from algoprog.scaling.surface.projection import projected_start
from algoprog.scaling.surface.search import SurfaceBest, solve_surface, start_grid

SurfaceLoss = Literal["huber", "lad", "squared", "squared-linear", "quantile"]
LOSSES = ("huber", "lad", "squared", "squared-linear", "quantile")
RAW = ("squared-linear", "quantile")
ABSOLUTE = 1e-9  # knee that stands for an absolute value
QUANTILE = 1.0 / 11.0
"""The quantile of ``loss="quantile"``: a prediction above the point costs ten times one below it. A floor of the
points, not a mean law."""
LEAST_RUNS = PARAMETERS + 2
UNFINISHED = (Status.MAX_ITER, Status.ABNORMAL, Status.DID_NOT_MOVE)
LEAST_SIZES, LEAST_BUDGETS = 2, 3


@dataclass(frozen=True, eq=False)
class SurfaceFit:
    """A fitted surface; read ``status`` before anything else. ``surface`` is None where none is defined.

    ``sigma``: ``sqrt(RSS/(n - 5))``; ``sigma_mad``: 1.4826 MAD; both of ln L (of L in nats for ``squared-linear`` and
    ``quantile``), NaN without degrees of freedom. ``objective``: the sum that ``loss`` minimises; ``delta``: Huber's
    knee, None where the loss has none. ``reason``: why that objective. ``starts`` tried, ``agreeing`` of them ended at
    the optimum. ``run_correlation`` of the residuals within a run, NaN where every run has one point. ``points``: the
    fitted rows, with their ranges and what was left out; ``problem`` and ``p``: the fit as the solver sees it.
    """

    surface: Surface | None
    status: Status
    loss: str
    delta: float | None
    reason: str
    objective: float
    sigma: float
    sigma_mad: float
    run_correlation: float
    starts: int
    agreeing: int
    points: SurfacePoints
    problem: SurfaceProblem
    p: FloatArray

    @property
    def n(self) -> int:
        """Fitted points."""
        return int(self.points.loss.size)

    @property
    def runs(self) -> int:
        """Runs that they come from."""
        return self.points.n_runs

    @property
    def points_per_run(self) -> float:
        """Mean number of points of a run."""
        return self.n / self.runs


def fit_surface(
    points: pd.DataFrame,
    loss: SurfaceLoss = "huber",
    *,
    delta: float | None = None,
    min_flops: float = 0.0,
    max_flops: float = math.inf,
    flops_per_param_token: float = FLOPS_PER_PARAM_TOKEN,
) -> SurfaceFit:
    """Fit one surface to ``points``: rows with ``params``, ``tokens``, ``loss`` (nats per token) and, where known,
    ``flops`` (else ``flops_per_param_token`` times params times tokens), ``run`` and ``arch``.

    ``loss``: ``huber``, ``lad`` (least absolute deviations) or ``squared`` of ln L; ``squared-linear`` of L;
    ``quantile`` of L (see ``QUANTILE``). ``delta``: Huber's knee in ln L instead of 1.345 sigma_hat. Rows with ``flops``
    outside [min_flops, max_flops] are left out and counted, as are rows without params or tokens.

    Raises InputError for a malformed table or argument, for more than one architecture, and where no row is left.
    """
    check_objective(loss, delta)
    data = surface_points(points, min_flops, max_flops, flops_per_param_token)
    one = SurfaceProblem(data.u, data.v, np.log(data.loss), np.ones((1, data.loss.size)), raw=loss in RAW)
    too_few = data.n_runs < LEAST_RUNS or data.sizes < LEAST_SIZES or data.token_counts < LEAST_SIZES
    too_few = too_few or data.budgets < LEAST_BUDGETS
    if data.loss.size < PARAMETERS or min(data.sizes, data.token_counts) < 2:
        return _no_fit(data, one, loss)
    grid, squares = _least_squares(one, data)
    problem, warm, used, reason = _choose_objective(one, squares, loss, delta)
    starts = squares.ends[:, 0] if warm else grid
    best = squares if problem is one else solve_surface(problem, starts, warm=len(starts) if warm else 0)
    z = residuals(best.p, problem)[0]
    freedom = z.size - PARAMETERS
    return SurfaceFit(
        surface=surface_of(best.p[0], data),
        status=Status.TOO_FEW if too_few else best.status[0],
        loss=used,
        delta=problem.knee if used == "huber" else None,
        reason=reason,
        objective=_reported(best.objective[0], z, used),
        sigma=math.sqrt(float(z @ z) / freedom) if freedom > 0 else math.nan,
        sigma_mad=robust_scale(z) if freedom > 0 else math.nan,
        run_correlation=data.run_correlation(z),
        starts=len(grid),
        agreeing=int(best.agreeing[0]),
        points=data,
        problem=problem,
        p=best.p[0],
    )


def surface_of(p: FloatArray, data: SurfacePoints) -> Surface:
    """The surface of the solver's parameters (5,): ``ln A = a + alpha n0``, ``ln B = b + beta d0``, ``ln E = e``."""
    a, b, e, alpha, beta = (float(value) for value in p)
    log_a, log_b = a + alpha * data.n0, b + beta * data.d0
    return Surface(math.exp(e), math.exp(log_a), math.exp(log_b), alpha, beta, data.flops_per_param_token)


def check_objective(loss: str, delta: float | None) -> None:
    """Raise InputError for an unknown objective, a knee <= 0, or a knee for an objective without one."""
    if loss not in LOSSES:
        raise InputError("unknown objective", got=loss, expected=", ".join(LOSSES))
    if delta is not None and (loss != "huber" or not (math.isfinite(delta) and delta > 0)):
        raise InputError("bad Huber knee", got=delta, expected="a finite number > 0, together with the objective huber")


def _least_squares(one: SurfaceProblem, data: SurfacePoints) -> tuple[FloatArray, SurfaceBest]:
    """The starts, and the least-squares fit from them. The projection is a start where residuals are of L, and where no
    other start came to an end: if a loss hardly varies, descents creep along a valley of vanishing exponents."""
    grid = start_grid(one.y)
    best = None if one.raw else solve_surface(one, grid)
    if best is None or best.status[0] in UNFINISHED:
        low, high = one.bounds
        grid = np.vstack([np.clip(projected_start(data.u, data.v, data.loss), low, high), grid])
        best = solve_surface(one, grid)
    return grid, best


def _choose_objective(
    one: SurfaceProblem, squares: SurfaceBest, loss: str, delta: float | None
) -> tuple[SurfaceProblem, bool, str, str]:
    """The problem with its knee and tilt, whether to go on from the ends of ``squares``, the objective used, and the
    reason in words."""
    if loss == "lad":
        return replace(one, knee=ABSOLUTE), False, "lad", "lad: requested"
    if loss == "quantile":
        tilt = (1.0 - QUANTILE) / QUANTILE
        return replace(one, knee=ABSOLUTE, tilt=tilt), False, loss, f"quantile {QUANTILE:.3g}: requested"
    if loss != "huber":
        return one, False, loss, f"{loss}: requested"
    if delta is not None:
        return replace(one, knee=delta), False, "huber", f"huber: knee {delta:.3g} requested"
    scale = robust_scale(residuals(squares.p, one)[0])
    if scale < ROUNDING:
        reason = f"squared: the robust scale of the residuals, {scale:.1g}, is at rounding level"
        return one, False, "squared", reason
    # Squares are the first stage of the continuation: each start goes on from where it ended there.
    reason = f"huber: knee 1.345 x {scale:.3g} (MAD of a least-squares fit)"
    return replace(one, knee=1.345 * scale), True, "huber", reason


def _reported(q: float, z: FloatArray, loss: str) -> float:
    """The objective as people state it: sums of absolute values or of weighted ones, not of their smoothed stand-in."""
    if loss == "lad":
        return float(np.abs(z).sum())
    if loss == "quantile":
        return float(np.where(z < 0, -z * (1.0 - QUANTILE), z * QUANTILE).sum())
    return float(q)


def _no_fit(data: SurfacePoints, problem: SurfaceProblem, loss: str) -> SurfaceFit:
    """The result where not even a surface through the points is defined."""
    return SurfaceFit(
        surface=None,
        status=Status.TOO_FEW,
        loss="none",
        delta=None,
        reason=f"not fitted: {data.loss.size} points, {data.sizes} sizes and {data.token_counts} token counts for "
        f"{PARAMETERS} parameters ({loss} requested)",
        objective=math.nan,
        sigma=math.nan,
        sigma_mad=math.nan,
        run_correlation=math.nan,
        starts=0,
        agreeing=0,
        points=data,
        problem=problem,
        p=np.full(PARAMETERS, math.nan),
    )
