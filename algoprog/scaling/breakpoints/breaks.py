"""Is it one law? A test for one break in the exponent of one architecture's law.

Null: ``L = E + a C^-alpha`` with E free. Alternative: the continuous two-piece law with the same E, free as well
(module ``two_piece``). Without E in the null nearly every law looks broken, because it is curved in log-log
coordinates. A break is claimed only if three criteria agree: sup-F against data sets simulated under the fitted null
(module ``sup_f``), the difference of BIC, and a bootstrapped position inside the range that was searched.

Noise is taken as normal with one sigma of ln L, independent between points: one point per run. The choice of the best run
of each budget is not repeated in the simulations; unequal numbers of candidates give a warning.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from algoprog.scaling.binomial import binomial_interval
from algoprog.scaling.breakpoints.criteria import Criteria, criteria
from algoprog.scaling.breakpoints.one_law import ArchPoints, arch_points, fit_one_law
from algoprog.scaling.breakpoints.position import BreakPosition, break_position
from algoprog.scaling.breakpoints.sup_f import MIDDLE, SIDE, SupF, f_value, positions, simulate_null, sup_f
from algoprog.scaling.breakpoints.two_piece import TwoPieceLaw, fit_profile
from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import FloatArray, PowerLaw
from algoprog.scaling.planning.information import Detectable, detectable_break
from algoprog.scaling.search import Status

LEVEL = 0.05
FEWEST_DRAWS = 19
ROUNDING = 1e-9  # residuals of ln L below this are arithmetic, not noise


class BreakStatus(enum.StrEnum):
    """``tested``; ``too_few``: five points a side leave no room in the middle of the range; ``exact``: the points lie on
    one law to rounding, so there is no noise to test against; ``abnormal``: no law could be fitted."""

    TESTED = "tested"
    TOO_FEW = "too_few"
    EXACT = "exact"
    ABNORMAL = "abnormal"


@dataclass(frozen=True, eq=False)
class Evidence:
    """The numbers of a test. ``one`` and ``two``: the fitted laws; ``sigma``: residual scale of ln L about ``one``.

    ``p_interval``: Monte-Carlo error of ``p_value`` (95 %). ``critical``: simulated 5 % point of ``sup_f``. ``models``:
    pure power law (E = 0, for comparison only), one law, two pieces. ``delta_aicc``, ``delta_bic``: one law minus two
    pieces, so that positive numbers favour the break. ``detectable``: the smallest change of the exponent that 80 % of
    such studies see at a known break in the middle of ln C. ``profile_flops``, ``profile_f``: F by position, (D,).
    """

    one: PowerLaw
    one_status: Status
    sigma: float
    two: TwoPieceLaw
    two_settled: bool
    sup_f: float
    p_value: float
    p_interval: tuple[float, float]
    critical: float
    models: tuple[Criteria, Criteria, Criteria]
    position: BreakPosition
    detectable: Detectable
    profile_flops: FloatArray
    profile_f: FloatArray

    @property
    def delta_aicc(self) -> float:
        """AICc of one law minus that of two pieces."""
        return self.models[1].aicc - self.models[2].aicc

    @property
    def delta_bic(self) -> float:
        """BIC of one law minus that of two pieces."""
        return self.models[1].bic - self.models[2].bic

    @property
    def rejected(self) -> bool:
        """True if sup F rejects one law at the 5 % level."""
        return self.p_value <= LEVEL

    @property
    def claimed(self) -> bool:
        """True if sup F, BIC and the position agree on a break."""
        return self.rejected and self.delta_bic > 0 and self.position.interior


@dataclass(frozen=True, eq=False)
class BreakTest:
    """What :func:`break_test` found; ``evidence`` is None unless ``status`` is ``tested``."""

    arch: str
    status: BreakStatus
    points: pd.DataFrame
    flops_range: tuple[float, float]
    evidence: Evidence | None
    draws: int
    seed: int

    @property
    def claimed(self) -> bool:
        """True if a break is claimed."""
        return self.evidence is not None and self.evidence.claimed

    @property
    def method(self) -> str:
        """How p, critical value and intervals were made."""
        return (
            f"sup-F over the middle {MIDDLE:.0%} of ln C with {SIDE} points a side and E free; p and critical value: "
            f"{self.draws} data sets simulated under the fitted law; position: parametric bootstrap of the two-piece "
            f"law, {self.draws} draws; seed {self.seed}"
        )


def break_test(frontier: pd.DataFrame, draws: int = 999, seed: int = 0) -> BreakTest:
    """Test the frontier points of one architecture for a break.

    ``frontier``: rows with ``arch, flops, loss`` as from ``final_frontier``, one point per run. ``draws``: data sets
    simulated for p, and as many for the position. Deterministic for a ``seed``, independent of the order of rows.

    Raises InputError for a malformed table, several architectures, several points of one run, or draws < 19. What the
    data do is told by ``status``.
    """
    if draws < FEWEST_DRAWS:
        raise InputError("too few draws", got=draws, expected=f"at least {FEWEST_DRAWS}, for a p-value of 5 %")
    points = arch_points(frontier)
    at = positions(points.log_flops)
    found = sup_f(points.log_flops, points.log_loss[None, :], at) if at.size else None
    status, evidence = _status(found, len(points.rows)), None
    if found is not None and status is BreakStatus.TESTED:
        evidence = _evidence(points, found, at, draws, np.random.default_rng(seed))
    return BreakTest(points.arch, status, points.rows, points.flops_range, evidence, draws, seed)


def _status(found: SupF | None, n: int) -> BreakStatus:
    if found is None:
        return BreakStatus.TOO_FEW
    if found.one.rss[0] <= n * ROUNDING**2:
        return BreakStatus.EXACT
    lost = found.one.status[0] in (Status.ABNORMAL, Status.DID_NOT_MOVE)
    return BreakStatus.ABNORMAL if lost or not np.isfinite(found.value[0]) else BreakStatus.TESTED


def _evidence(points: ArchPoints, found: SupF, at: FloatArray, draws: int, rng: np.random.Generator) -> Evidence:
    log_flops, one, log_c0 = points.log_flops, found.one, found.one.log_c0
    n = log_flops.size
    simulated = simulate_null(log_flops, one, at, draws, rng)
    # The data set itself counts among the draws (Davison and Hinkley 1997, eq. 4.11): p is never 0.
    beyond = 1 + int((simulated >= found.value[0]).sum())
    profile = fit_profile(log_flops - log_c0, points.log_loss, at - log_c0)
    sigma = float(one.sigma(n)[0])
    middle = math.exp(0.5 * (log_flops[0] + log_flops[-1]))
    return Evidence(
        one=one.law(),
        one_status=one.status[0],
        sigma=sigma,
        two=found.two.law(0, log_c0),
        two_settled=bool(found.two.settled[0]),
        sup_f=float(found.value[0]),
        p_value=beyond / (draws + 1),
        p_interval=binomial_interval(beyond, draws + 1),
        critical=_critical(simulated),
        models=_models(points, found),
        position=break_position(log_flops, found, at, draws, rng),
        detectable=detectable_break(one.law(), np.exp(log_flops), middle, sigma),
        profile_flops=np.exp(at),
        profile_f=f_value(one.rss, np.minimum(profile.rss, one.rss), n),
    )


def _critical(simulated: FloatArray) -> float:
    """The simulated value that sup F must exceed for ``p <= LEVEL``."""
    rank = math.floor(LEVEL * (simulated.size + 1) * (1 + 1e-12))
    return float(np.sort(simulated)[-rank])


def _models(points: ArchPoints, found: SupF) -> tuple[Criteria, Criteria, Criteria]:
    """Pure power law, one law, two pieces; parameters count sigma, and the position of the break."""
    n = points.log_flops.size
    pure = fit_one_law(points.log_flops, points.log_loss[None, :], 0.0)
    rss = min(float(found.two.rss[0]), float(found.one.rss[0]))
    return (
        criteria("pure power law, E = 0", 3, float(pure.rss[0]), n),
        criteria("one law, E free", 4, float(found.one.rss[0]), n),
        criteria("two pieces, E free", 6, rss, n),
    )
