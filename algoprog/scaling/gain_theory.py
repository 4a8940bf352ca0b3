"""What two power laws imply about their gain, in closed form: where it is 1, peaks or ends, its slope and its error.

Notation: A old, B new, ``L_i = E_i + a_i (C/C0_i)^-alpha_i``; ``G`` new-anchored, ``H`` old-anchored (see
:mod:`algoprog.scaling.ceg`). All follow from ``G(C) = L_A^-1(L_B(C))/C``; compute in FLOPs, E in nats per token.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from statistics import NormalDist

import numpy as np

from algoprog.scaling.ceg import law_gain
from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import FloatArray, LogLaw, PowerLaw


def log_slope_new(old: LogLaw, new: LogLaw, log_flops: FloatArray) -> FloatArray:
    """``d ln G/d ln C = s alpha_B/alpha_A - 1`` with ``s = a_B C^-alpha_B/(E_B - E_A + a_B C^-alpha_B)``.

    NaN where G is infinite: it has no slope there. Shapes broadcast.
    """
    part = np.exp(new.log_reducible(log_flops))
    return _share(part, new.E - old.E) * new.alpha / old.alpha - 1.0


def log_slope_old(old: LogLaw, new: LogLaw, log_flops: FloatArray) -> FloatArray:
    """``d ln H/d ln C = 1 - s alpha_A/alpha_B`` with ``s = a_A C^-alpha_A/(E_A - E_B + a_A C^-alpha_A)``.

    Tends to 1 where ``E_B < E_A``; NaN where H is 0. Shapes broadcast.
    """
    part = np.exp(old.log_reducible(log_flops))
    return 1.0 - _share(part, old.E - new.E) * old.alpha / new.alpha


def parity(old: PowerLaw, new: PowerLaw) -> float | None:
    """``C_1 = (a_A/a_B)^(-1/(alpha_B - alpha_A))``, where G = H = 1; None if equal exponents never meet.

    ``inf`` (or 0) where the meeting point overflows (underflows). Raises InputError for different E: there the laws
    may meet twice, once or never, and no closed form says where.
    """
    if old.E != new.E:
        raise InputError(
            "no closed form of parity", got=f"E {old.E:g} and {new.E:g}", expected="laws with one irreducible loss"
        )
    if old.alpha == new.alpha:
        return None
    a, b = old.parameters, new.parameters
    log_ratio = (b.log_a + b.alpha * b.log_c0) - (a.log_a + a.alpha * a.log_c0)
    with np.errstate(over="ignore"):
        return float(np.exp(log_ratio / (new.alpha - old.alpha)))


def infinite_beyond(old: PowerLaw, new: PowerLaw) -> float:
    """``C* = (a_B/(E_A - E_B))^(1/alpha_B)``: from there on the old law never reaches the new one's loss, G = ``inf``.

    Compute of the new architecture; ``inf`` where ``E_B >= E_A``.
    """
    return new.compute(old.E) if new.E < old.E else math.inf


def zero_beyond(old: PowerLaw, new: PowerLaw) -> float:
    """``(a_A/(E_B - E_A))^(1/alpha_A)``: from there on the new law never reaches the old one's loss, H = 0.

    Compute of the old architecture; ``inf`` where ``E_B <= E_A``.
    """
    return old.compute(new.E) if new.E > old.E else math.inf


def peak(old: PowerLaw, new: PowerLaw) -> tuple[float, float] | None:
    """Compute of the new architecture where G is largest, and G there; None where G has no interior peak.

    With ``E_B > E_A`` and ``alpha_B > alpha_A`` the peak is at ``C = [(s/(1-s)) (E_B - E_A)/a_B]^(-1/alpha_B)``,
    ``s = alpha_A/alpha_B``; otherwise G rises or falls throughout, or is constant.
    """
    if not (new.E > old.E and new.alpha > old.alpha):
        return None
    s = old.alpha / new.alpha
    log_c = new.parameters.log_compute(np.asarray(s / (1.0 - s) * (new.E - old.E)))
    with np.errstate(over="ignore"):
        flops = float(np.exp(log_c))
    return (flops, law_gain(old, new, flops)) if 0 < flops < math.inf else None


@dataclass(frozen=True)
class Sensitivities:
    """Partial derivatives of ln G at one compute of the new architecture, each law's ``a`` held at its own ``C0``.

    ``log_a_*`` and ``E_*`` per unit of ln a and per nat; ``alpha_*`` per unit of the exponent. The order of the
    fields is the order of the covariance in :func:`log_gain_variance`.
    """

    log_a_old: float
    alpha_old: float
    log_a_new: float
    alpha_new: float
    E_old: float
    E_new: float


def sensitivities(old: PowerLaw, new: PowerLaw, flops: float) -> Sensitivities:
    """All six partials of ln G, with ``r = L_B(C) - E_A`` and ``C_A = C G(C)``.

    1/alpha_A, -ln(C_A/C0_A)/alpha_A, -p/(alpha_A r), ln(C/C0_B) p/(alpha_A r), 1/(alpha_A r), -1/(alpha_A r), where
    ``p = a_B (C/C0_B)^-alpha_B``. Raises InputError where G is infinite: it has no derivative there.
    """
    gain = law_gain(old, new, flops)
    if not 0 < gain < math.inf:
        expected = f"flops below {infinite_beyond(old, new):.3g}"
        raise InputError("the gain has no derivative here", got=f"gain {gain:g} at {flops:g} FLOPs", expected=expected)
    part = new.loss(flops) - new.E
    r = part + (new.E - old.E)
    x_old, x_new = math.log(flops) + math.log(gain) - math.log(old.C0), math.log(flops / new.C0)
    scale = 1.0 / (old.alpha * r)
    return Sensitivities(1.0 / old.alpha, -x_old / old.alpha, -part * scale, x_new * part * scale, scale, -scale)


def log_gain_variance(old: PowerLaw, new: PowerLaw, flops: float, covariance: FloatArray) -> float:
    """``Var(ln G)`` by the delta method, ``g' Sigma g``: for planning only, because ln G is skewed.

    ``covariance`` (6, 6) of (ln a_A, alpha_A, ln a_B, alpha_B, E_A, E_B); one shared E is two fully correlated equal
    entries, whose effects cancel. Raises InputError for another shape or a matrix that is not symmetric.
    """
    sigma = np.asarray(covariance, dtype=np.float64)
    if sigma.shape != (6, 6) or not np.allclose(sigma, sigma.T):
        raise InputError("bad covariance", got=f"shape {sigma.shape}", expected="a symmetric matrix of shape (6, 6)")
    g = np.array(astuple(sensitivities(old, new, flops)))
    return float(g @ sigma @ g)


def planned_factor(
    old: PowerLaw,
    new: PowerLaw,
    flops: float,
    *,
    se_log_a: tuple[float, float],
    se_alpha: tuple[float, float],
    level: float = 0.95,
) -> float:
    """The factor x/÷ that a central ``level`` interval of G would span if both laws were known this well.

    Independent standard errors of (old, new): ``ln a`` at each law's ``C0`` and the exponents; E common and known.
    """
    sigma = np.diag(np.square([se_log_a[0], se_alpha[0], se_log_a[1], se_alpha[1], 0.0, 0.0]))
    z = NormalDist().inv_cdf(0.5 + 0.5 * level)
    return math.exp(z * math.sqrt(log_gain_variance(old, new, flops, sigma)))


def _share(part: FloatArray, difference: FloatArray) -> FloatArray:
    """``part/(difference + part)``, the share of the power law in the other law's reducible loss; NaN if not > 0."""
    whole = difference + part
    return np.asarray(np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan))
