"""The Fisher answer checked: simulate studies of a design, fit them as real ones are fitted, and count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algoprog.scaling.binomial import binomial_interval
from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import PowerLaw
from algoprog.scaling.planning.information import covariance
from algoprog.scaling.planning.power import GAP, GapStudy, joint_jacobian
from algoprog.scaling.search import Best, Status, solve_shared
from algoprog.scaling.solve import Problem


@dataclass(frozen=True)
class PowerCheck:
    """``refits`` studies, each fitted with one shared E.

    ``mean_gap`` and ``spread`` (standard deviation) of the estimated gap, each with its Monte-Carlo standard error.
    ``power``: share of studies that call the gap different from 0 (estimate over its estimated standard error, t with
    ``2 points - 5`` degrees of freedom, 5 % two-sided); ``coverage``: share of such 95 % intervals that hold the true gap;
    both with exact binomial 95 % intervals. ``at_bound``: studies whose E hit a bound; they count.
    """

    refits: int
    seed: int
    mean_gap: float
    mean_error: float
    spread: float
    spread_error: float
    power: float
    power_interval: tuple[float, float]
    coverage: float
    coverage_interval: tuple[float, float]
    at_bound: int


def check_power(study: GapStudy, refits: int = 200, seed: int = 0) -> PowerCheck:
    """Simulate ``refits`` studies of ``study`` with normal noise of ln L and fit them by least squares with one E.

    All studies are solved together, by the solver behind ``fit_frontiers``. Raises InputError for refits < 20.
    """
    if refits < 20:
        raise InputError("too few refits", got=refits, expected="at least 20")
    # Imported here: scipy costs as much to import as the rest of this folder together.
    from scipy.special import stdtrit

    best = _refit(study, refits, np.random.default_rng(seed))
    gaps = best.laws.alpha[:, 1] - best.laws.alpha[:, 0]
    freedom = 2 * study.points - GAP.size
    sigma = np.sqrt(2.0 * best.objective / freedom)
    errors = np.array([_error(study, best, i, float(sigma[i])) for i in range(refits)])
    width = float(stdtrit(freedom, 0.975)) * errors
    seen, covered = int((np.abs(gaps) > width).sum()), int((np.abs(gaps - study.gap) <= width).sum())
    spread = float(gaps.std(ddof=1))
    return PowerCheck(
        refits=refits,
        seed=seed,
        mean_gap=float(gaps.mean()),
        mean_error=spread / refits**0.5,
        spread=spread,
        spread_error=spread / (2 * (refits - 1)) ** 0.5,
        power=seen / refits,
        power_interval=binomial_interval(seen, refits),
        coverage=covered / refits,
        coverage_interval=binomial_interval(covered, refits),
        at_bound=sum(name is Status.BOUND_HIT for name in best.status),
    )


def _refit(study: GapStudy, refits: int, rng: np.random.Generator) -> Best:
    n = study.points
    x = np.log(study.flops / study.middle)
    truth = np.log(np.concatenate([study.old.loss(study.flops), study.new.loss(study.flops)]))
    y = truth + study.sigma * rng.standard_normal((refits, 2 * n))
    own = np.repeat(np.eye(2), n, axis=0)
    return solve_shared(Problem(np.tile(x, (refits, 2)), y, np.ones_like(y), own))


def _error(study: GapStudy, best: Best, i: int, sigma: float) -> float:
    """Standard error of the gap by the information at the laws and the residual scale of fit ``i``."""
    e, rho, alpha = float(best.laws.e[i]), best.laws.rho[i], best.laws.alpha[i]
    old, new = (PowerLaw(e, float(np.exp(rho[k])), float(alpha[k]), study.middle) for k in (0, 1))
    joint = joint_jacobian(old, new, study.flops, study.flops)
    return float(np.sqrt(GAP @ covariance(joint, sigma) @ GAP))
