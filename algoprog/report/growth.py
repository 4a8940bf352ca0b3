"""Does a gain depend on scale? The gap of two exponents and what it does to the gain, with intervals.

Under one irreducible loss E, shared by all architectures, the gain at compute C of the new architecture is exactly
``G(C) ~ C^(alpha_new/alpha_old - 1)``, so it grows with compute if and only if the new exponent is the larger one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algoprog.scaling import Analysis, Status
from algoprog.scaling.intervals.bootstrap import percentiles

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Growth:
    """How the gain of new ``b`` over old ``a`` changes with the compute of ``b``.

    ``gap``: exponent of the new minus that of the old one. ``per_decade``: factor on the gain per factor of ten in
    compute. Intervals come from joint draws of both laws (None: no draw could be fitted). ``excludes_zero``: the
    interval of the gap does. ``sound``: the fit converged and its intervals are stable.
    """

    a: str
    b: str
    gap: float
    gap_interval: Interval
    per_decade: float
    per_decade_interval: Interval
    excludes_zero: bool
    sound: bool

    @property
    def established(self) -> bool:
        """Whether a dependence on scale is established: the gap is off zero, in a fit that can be relied on."""
        return self.excludes_zero and self.sound


def growth(analysis: Analysis, a: str, b: str) -> Growth:
    """The dependence on scale of the gain of ``b`` over ``a``; both must have a law."""
    old, new = analysis.fit.laws[a].alpha, analysis.fit.laws[b].alpha
    old_draws, new_draws = analysis.boot.law(a).alpha, analysis.boot.law(b).alpha
    gap = percentiles(new_draws - old_draws, analysis.boot.level)
    with np.errstate(over="ignore"):
        factors = percentiles(np.power(10.0, new_draws / old_draws - 1.0), analysis.boot.level)
    return Growth(
        a=a,
        b=b,
        gap=new - old,
        gap_interval=gap,
        per_decade=float(10.0 ** (new / old - 1.0)),
        per_decade_interval=factors,
        excludes_zero=gap is not None and (gap[0] > 0 or gap[1] < 0),
        sound=analysis.fit.status is Status.CONVERGED and not analysis.boot.unstable,
    )


def all_growth(analysis: Analysis) -> list[Growth]:
    """One per pair whose gains the analysis holds."""
    return [growth(analysis, pair.a, pair.b) for pair in analysis.gains]
