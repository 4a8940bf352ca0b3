"""What a study of two architectures can see before it is run: errors of an exponent gap and of a gain.

Everything here is the Fisher answer: the covariance ``sigma^2 (J^T J)^-1`` at assumed laws, no data. A gap g is seen by
80 % of studies, at 5 % two-sided, if its standard error is at most ``g/2.80``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import FloatArray, PowerLaw
from algoprog.scaling.planning.information import DETECTABLE, Detectable, covariance, detectable_break, law_jacobian

GAP = np.array([0.0, -1.0, 0.0, 1.0, 0.0])  # alpha_new - alpha_old in the order of joint_jacobian


@dataclass(frozen=True)
class GapStudy:
    """Two laws with one E and their design: ``points`` runs each, in equal steps of ln C over ``decades`` from
    ``flops_min``; ``sigma`` of ln L.

    ``reducible_old`` and ``reducible_new``: L - E in nats in the middle of the range; exponents ``alpha`` (old) and
    ``alpha + gap`` (new). Raises InputError for numbers out of range, or fewer than 4 points.
    """

    gap: float = 0.01
    decades: float = 3.0
    sigma: float = 0.003
    points: int = 8
    flops_min: float = 1e15
    irreducible: float = 1.9
    reducible_old: float = 2.6
    reducible_new: float = 2.2
    alpha: float = 0.065

    def __post_init__(self) -> None:
        positive = ("decades", "sigma", "flops_min", "reducible_old", "reducible_new", "alpha")
        for name in (*positive, "gap", "irreducible"):
            value = getattr(self, name)
            if not math.isfinite(value) or (name in positive and value <= 0):
                raise InputError(f"bad {name.replace('_', ' ')}", got=value, expected="a finite number > 0")
        if self.gap == 0 or self.alpha + self.gap <= 0:
            got = f"alpha {self.alpha:g} and gap {self.gap:g}"
            raise InputError("bad gap", got=got, expected="a gap that is not 0 and leaves both exponents positive")
        if self.irreducible < 0:
            raise InputError("bad irreducible loss", got=self.irreducible, expected="a number >= 0, in nats per token")
        if self.points < 4:
            raise InputError(
                "too few points", got=self.points, expected="at least 4 per architecture, for a law and a scale"
            )
        if self.decades > 20:
            raise InputError("bad decades", got=self.decades, expected="at most 20")

    @property
    def flops(self) -> FloatArray:
        """Compute of the runs of either architecture, (points,)."""
        return self.flops_min * 10.0 ** np.linspace(0.0, self.decades, self.points)

    @property
    def middle(self) -> float:
        """Geometric centre of the range in FLOPs."""
        return float(self.flops_min * 10.0 ** (0.5 * self.decades))

    @property
    def old(self) -> PowerLaw:
        """The old architecture's law."""
        return PowerLaw(self.irreducible, self.reducible_old, self.alpha, self.middle)

    @property
    def new(self) -> PowerLaw:
        """The new architecture's law."""
        return PowerLaw(self.irreducible, self.reducible_new, self.alpha + self.gap, self.middle)

    def over(self, decades: float) -> GapStudy:
        """The same study over another range; reducible losses stay those of its middle."""
        return replace(self, decades=decades)


@dataclass(frozen=True)
class GapErrors:
    """Standard errors of an exponent gap, with E ``known``, one E ``shared`` and estimated, or estimated ``separate``ly."""

    known: float
    shared: float
    separate: float


def joint_jacobian(old: PowerLaw, new: PowerLaw, flops_old: FloatArray, flops_new: FloatArray) -> FloatArray:
    """Derivatives of ln L of all runs by (rho_old, alpha_old, rho_new, alpha_new, E), E shared; shape (n_old + n_new, 5)."""
    first, second = law_jacobian(old, flops_old), law_jacobian(new, flops_new)
    blank_old, blank_new = np.zeros((flops_old.size, 2)), np.zeros((flops_new.size, 2))
    above = np.hstack([first[:, :2], blank_old, first[:, 2:]])
    below = np.hstack([blank_new, second])
    return np.vstack([above, below])


def gap_errors(study: GapStudy) -> GapErrors:
    """Standard errors of ``alpha_new - alpha_old`` for the design of ``study``."""
    joint = joint_jacobian(study.old, study.new, study.flops, study.flops)
    known = covariance(joint[:, :4], study.sigma)
    shared = covariance(joint, study.sigma)
    alone = sum(covariance(law_jacobian(law, study.flops), study.sigma)[1, 1] for law in (study.old, study.new))
    return GapErrors(math.sqrt(GAP[:4] @ known @ GAP[:4]), math.sqrt(GAP @ shared @ GAP), math.sqrt(float(alone)))


def points_needed(error: float, points: int, gap: float) -> float:
    """Runs per architecture for 80 % power at 5 % two-sided, if ``points`` runs give the standard error ``error``.

    ``points (2.80 error/gap)^2``, rounded up: errors fall with the root of the number of runs. Below about six it is
    formal, because that many are needed to see the law at all. ``inf`` where the error is.
    """
    needed = points * (DETECTABLE * error / gap) ** 2
    return math.ceil(needed - 1e-9) if math.isfinite(needed) else math.inf


def log_gain_gradient(old: PowerLaw, new: PowerLaw, flops: float) -> FloatArray:
    """Derivatives of ln G at ``flops`` of the new law by (rho_old, alpha_old, rho_new, alpha_new, E), laws of one E.

    ``ln G = ln C_old - ln C`` with C_old the compute of the old law for the same loss. With each law centred at its C0,
    ``x_old = ln(C_old/C0)`` and ``x = ln(C/C0)``: (1, -x_old, -1, x, 0)/alpha_old.
    """
    matched = old.compute(new.loss(flops))
    x_old, x = math.log(matched / old.C0), math.log(flops / new.C0)
    return np.array([1.0, -x_old, -1.0, x, 0.0]) / old.alpha


@dataclass(frozen=True)
class GainError:
    """Standard error of ln G at ``flops`` of the new law, with E known and with a shared E estimated; ``gain`` is G."""

    flops: float
    gain: float
    known: float
    shared: float


def largest_in_range_flops(study: GapStudy) -> float | None:
    """The largest compute of the new law at which the old one needs no more than its own largest; None if there is none."""
    low, high = float(study.flops[0]), float(study.flops[-1])
    flops = min(high, study.new.compute(study.old.loss(high)))
    return flops if flops >= low and study.old.compute(study.new.loss(flops)) >= low else None


def gain_error(study: GapStudy, flops: float) -> GainError:
    """The delta method for ln G at ``flops`` of the new law; for planning only, because ln G is skewed."""
    joint = joint_jacobian(study.old, study.new, study.flops, study.flops)
    slope = log_gain_gradient(study.old, study.new, flops)
    known = float(slope[:4] @ covariance(joint[:, :4], study.sigma) @ slope[:4])
    shared = float(slope @ covariance(joint, study.sigma) @ slope)
    gain = study.old.compute(study.new.loss(flops)) / flops
    return GainError(flops, gain, math.sqrt(known), math.sqrt(shared))


def break_seen(study: GapStudy) -> Detectable:
    """Smallest change of the old law's exponent at a known break in the middle that 80 % of such studies see."""
    return detectable_break(study.old, study.flops, study.middle, study.sigma)
