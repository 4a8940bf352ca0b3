"""Frontier -> laws: one power law per architecture, one irreducible loss E shared by all.

The fit minimises the sum of Huber's function of ``ln L - ln L_hat`` over the frontier points, knee 1.345 sigma_hat
with sigma_hat = 1.4826 MAD of a first least-squares fit; with too few points to estimate a robust scale it stays with
least squares. Which of the two, and why, is part of the result. A bad fit is a status, never an exception.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.frontier import check_points, sort_points
from algoprog.scaling.laws import FloatArray, PowerLaw
from algoprog.scaling.prior import check_prior, with_prior
from algoprog.scaling.search import Best, Status, solve_fixed, solve_shared
from algoprog.scaling.solve import Problem, residuals

Irreducible = Literal["shared", "profile"] | float
Objective = Literal["auto", "huber", "squared"]

MIN_POINTS = 3  # distinct compute values per architecture, below which a law is not called fitted
HUBER_POINTS_PER_PARAMETER = 2  # fewer points than this per parameter, and the MAD of the residuals says little
ROUNDING = 1e-9  # residuals of ln L below this are arithmetic, not noise


@dataclass(frozen=True)
class FrontierFit:
    """Laws fitted to a frontier; read ``status`` before anything else.

    ``laws``: per architecture, ``a`` in nats at ``C0`` = the geometric mean of its FLOPs. ``E`` in nats per token.
    ``sigma``: residual scale of ln L, ``sqrt(RSS/(n - p))``; ``sigma_mad``: 1.4826 MAD of the residuals (both NaN
    where not defined). ``n_points`` on the frontier; ``n_runs`` that the frontier was chosen from; ``flops_range``
    (lowest, highest) of the fitted points. ``irreducible``: the rule for E as requested; ``E_interval``: the 95 %
    profile set of E, only under the rule ``profile``. ``loss``: the objective used; ``knee`` in ln L (``inf`` for
    squares); ``reason``: why that objective. ``basins``: local minima of the profile of E that were found.
    ``left_out``: architectures with too few points for any law. ``prior``: mean and standard deviation (nats) of a normal
    prior on E, None by default; ``prior_weight`` is what it weighed (``Prior``).
    """

    laws: Mapping[str, PowerLaw]
    E: float
    sigma: float
    sigma_mad: float
    status: Status
    n_points: Mapping[str, int]
    n_runs: Mapping[str, int]
    flops_range: Mapping[str, tuple[float, float]]
    irreducible: Irreducible
    loss: str
    knee: float
    reason: str
    objective: float
    n_parameters: int
    basins: int
    left_out: tuple[str, ...] = ()
    E_interval: tuple[float, float] | None = None
    prior: tuple[float, float] | None = None
    prior_weight: float = 0.0

    @property
    def archs(self) -> tuple[str, ...]:
        """The architectures that have a law, in alphabetical order."""
        return tuple(self.laws)

    @property
    def degrees_of_freedom(self) -> int:
        """Fitted points minus parameters."""
        return sum(self.n_points[arch] for arch in self.laws) - self.n_parameters


def fit_frontiers(
    frontier: pd.DataFrame,
    irreducible: Irreducible = "shared",
    *,
    loss: Objective = "auto",
    knee: float | None = None,
    prior: tuple[float, float] | None = None,
) -> FrontierFit:
    """Fit ``L = E + a_i (C/C0_i)^-alpha_i`` to the frontier points of all architectures jointly.

    ``frontier``: rows with ``arch``, ``flops``, ``loss`` (nats per token), as from ``final_frontier``; an optional
    ``weight`` > 0 multiplies a point's term. ``irreducible``: ``shared`` estimates one E; a number fixes it;
    ``profile`` estimates it and adds its 95 % profile set. ``loss``: ``huber``, ``squared``, or ``auto`` (module
    docstring). ``knee``: Huber's knee in ln L instead of 1.345 sigma_hat, for ``huber`` and ``auto``.
    ``prior``: (mean, sd) in nats of a normal prior on E, which only makes sense for text and a tokenizer whose entropy is
    known from elsewhere (``GPT2_WEB_PRIOR``); its use is part of ``reason``.

    Raises InputError for a malformed table or argument only; what the data do is told by ``status``.
    """
    check_points(frontier, "frontier")
    check_rule(irreducible, loss, knee, float(frontier["loss"].min()))
    check_prior(prior, irreducible)
    rows, left_out = _fittable(sort_points(frontier))
    free_e = isinstance(irreducible, str)
    parameters = 2 * rows["arch"].nunique() + free_e
    if rows.empty or len(rows) < parameters:
        reason = f"not fitted: {len(rows)} usable points for {parameters} parameters"
        return _no_fit(frontier, irreducible, parameters, reason)
    problem, log_c0 = frontier_problem(rows)
    fixed_e = None if free_e else float(irreducible)
    used, knee, reason = _choose_objective(problem, fixed_e, parameters, loss, knee)
    problem = replace(problem, knee=knee)
    best = solve_problem(problem, fixed_e)
    freedom = len(rows) - parameters
    if prior is not None:
        variance = float(np.sum(problem.w * residuals(best.laws, problem) ** 2)) / max(freedom, 1)
        problem = with_prior(problem, prior, variance / prior[1] ** 2)
        reason += f"; prior on E: normal, {prior[0]:g} +- {prior[1]:g} nats"
        best = solve_problem(problem, fixed_e)
    z = residuals(best.laws, problem)[0]
    too_few = bool(left_out) or freedom < 2 or bool((rows.groupby("arch")["flops"].nunique() < MIN_POINTS).any())
    fit = FrontierFit(
        laws=_laws(sorted(set(rows["arch"])), best, log_c0),
        E=float(best.laws.e[0]),
        sigma=math.sqrt(float(np.sum(problem.w[0] * z**2)) / freedom) if freedom > 0 else math.nan,
        sigma_mad=robust_scale(z) if freedom > 0 else math.nan,
        status=Status.TOO_FEW if too_few else best.status[0],
        n_points=_points(frontier),
        n_runs=_runs(frontier),
        flops_range=_range(frontier, "flops"),
        irreducible=irreducible,
        loss=used,
        knee=knee,
        reason=reason,
        objective=float(best.objective[0]),
        n_parameters=parameters,
        basins=int(best.basins[0]),
        left_out=left_out,
        prior=prior,
        prior_weight=0.0 if problem.prior is None else problem.prior.weight,
    )
    if irreducible == "profile":
        # Imported here because the profile is built from fits at fixed E.
        from algoprog.scaling.intervals.profile import profile_irreducible

        fit = replace(fit, E_interval=profile_irreducible(frontier, fit).interval)
    return fit


def check_rule(irreducible: Irreducible, loss: str, knee: float | None, lowest_loss: float) -> None:
    """Raise InputError for an unknown rule or objective, a knee <= 0, or a fixed E outside [0, lowest_loss)."""
    if isinstance(irreducible, str):
        if irreducible not in ("shared", "profile"):
            expected = "shared, profile or a number in nats per token"
            raise InputError("unknown rule for the irreducible loss", got=irreducible, expected=expected)
    elif not (math.isfinite(irreducible) and 0 <= irreducible < lowest_loss):
        expected = f"0 <= E < {lowest_loss:.6g}, the lowest loss on the frontier"
        raise InputError("bad irreducible loss", got=irreducible, expected=expected)
    if loss not in ("auto", "huber", "squared"):
        raise InputError("unknown objective", got=loss, expected="auto, huber or squared")
    if knee is not None and (loss == "squared" or not knee > 0):
        raise InputError("bad Huber knee", got=knee, expected="a number > 0, together with loss huber or auto")


def frontier_problem(rows: pd.DataFrame) -> tuple[Problem, FloatArray]:
    """These rows as one Problem, and ``ln C0`` per architecture in alphabetical order, shape (K,)."""
    archs, group = np.unique(rows["arch"].to_numpy(dtype=object).astype(str), return_inverse=True)
    log_flops = np.log(rows["flops"].to_numpy(dtype=np.float64))
    log_c0 = np.array([log_flops[group == i].mean() for i in range(archs.size)])
    weight = rows["weight"].to_numpy(dtype=np.float64) if "weight" in rows else np.ones(len(rows))
    x, y = log_flops - log_c0[group], np.log(rows["loss"].to_numpy(dtype=np.float64))
    return Problem(x[None], y[None], weight[None], np.eye(archs.size)[group]), log_c0


def solve_problem(problem: Problem, fixed_e: float | None) -> Best:
    """All problems of ``problem`` under one rule for E: a number in nats, or None to estimate one E per problem."""
    if fixed_e is None:
        return solve_shared(problem)
    return solve_fixed(problem, np.full(problem.y.shape[0], fixed_e))


def robust_scale(z: FloatArray) -> float:
    """1.4826 times the median absolute deviation from the median; unit of ``z``."""
    return float(1.4826 * np.median(np.abs(z - np.median(z))))


def _choose_objective(
    problem: Problem, fixed_e: float | None, parameters: int, loss: str, knee: float | None
) -> tuple[str, float, str]:
    """The objective, its knee, and the reason in words."""
    n = problem.y.shape[1]
    if loss == "squared":
        return "squared", math.inf, "squared: requested"
    if knee is not None:
        return "huber", knee, f"huber: knee {knee:.3g} requested"
    needed = HUBER_POINTS_PER_PARAMETER * parameters
    if loss == "auto" and n < needed:
        return "squared", math.inf, f"squared: {n} points for {parameters} parameters, a robust scale needs {needed}"
    scale = robust_scale(residuals(solve_problem(problem, fixed_e).laws, problem)[0])
    if scale < ROUNDING:
        return "squared", math.inf, f"squared: the robust scale of the residuals, {scale:.1g}, is at rounding level"
    return "huber", 1.345 * scale, f"huber: knee 1.345 x {scale:.3g} (MAD of a least-squares fit)"


def _fittable(rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Leave out architectures with a single compute value: they have no slope."""
    distinct = rows.groupby("arch")["flops"].transform("nunique")
    left_out = tuple(sorted(set(rows.loc[distinct < 2, "arch"])))
    return rows[distinct >= 2].reset_index(drop=True), left_out


def _laws(archs: list[str], best: Best, log_c0: FloatArray) -> dict[str, PowerLaw]:
    found = best.laws
    return {
        arch: PowerLaw(float(found.e[0]), math.exp(found.rho[0, i]), float(found.alpha[0, i]), math.exp(log_c0[i]))
        for i, arch in enumerate(archs)
    }


def _points(frontier: pd.DataFrame) -> dict[str, int]:
    return {str(arch): len(part) for arch, part in frontier.groupby("arch")}


def _range(frontier: pd.DataFrame, column: str) -> dict[str, tuple[float, float]]:
    return {str(arch): (float(v.min()), float(v.max())) for arch, v in frontier.groupby("arch")[column]}


def _runs(frontier: pd.DataFrame) -> dict[str, int]:
    """Runs the frontier was chosen from; a frontier from elsewhere knows only the runs on it."""
    if "arch_runs" in frontier:
        return {str(arch): int(v.iloc[0]) for arch, v in frontier.groupby("arch")["arch_runs"]}
    if "run" in frontier:
        return {str(arch): int(v.nunique()) for arch, v in frontier.groupby("arch")["run"]}
    return _points(frontier)


def _no_fit(frontier: pd.DataFrame, irreducible: Irreducible, parameters: int, reason: str) -> FrontierFit:
    """The result where not even a law through the points is defined."""
    return FrontierFit(
        laws={},
        E=math.nan,
        sigma=math.nan,
        sigma_mad=math.nan,
        status=Status.TOO_FEW,
        n_points=_points(frontier),
        n_runs=_runs(frontier),
        flops_range=_range(frontier, "flops"),
        irreducible=irreducible,
        loss="none",
        knee=math.nan,
        reason=reason,
        objective=math.nan,
        n_parameters=parameters,
        basins=0,
        left_out=tuple(sorted(set(frontier["arch"]))),
    )
