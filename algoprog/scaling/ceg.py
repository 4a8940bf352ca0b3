"""Compute-equivalent gain (CEG): how many times more compute the old architecture needs for the loss of the new one.

CEG(A -> B) = C_A / C_B at equal loss, A old, B new. Anchors:

* ``new``: C is spent by B,   ``G(C) = L_A^-1(L_B(C)) / C``    (the default)
* ``old``: C is spent by A,   ``H(C) = C / L_B^-1(L_A(C))``
* ``loss``: both at a stated loss.

One number at matched loss, but two functions of C: ``H(C G(C)) = G(C)``. Where the old law never reaches the loss the
gain is ``inf``, where the new one never does it is 0; never NaN. All arithmetic is on ln G.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from algoprog.scaling.errors import InputError
from algoprog.scaling.fit import FrontierFit
from algoprog.scaling.intervals.bootstrap import Bootstrap, percentiles
from algoprog.scaling.laws import FloatArray, LogLaw, PowerLaw
from algoprog.scaling.runs.load import require_arch

if TYPE_CHECKING:
    from algoprog.scaling.sensitivity import Sources  # a gain is made without it

Anchor = Literal["new", "old"]
NO_INTERVAL = "no interval"
EDGE = 1e-9  # relative slack at the ends of a range, for compute that went through ln and back
FAR = 0.25  # reducible loss below this part of the smallest one fitted is far beyond the data


@dataclass(frozen=True)
class Gain:
    """The gain of ``b`` (new) over ``a`` (old) at one loss.

    ``interval``: 95 % by default, None if no draws were made or none could be fitted. ``in_range``: both ``flops_a``
    and ``flops_b`` lie inside the FLOPs of the fitted points of their own architecture; otherwise ``decades_beyond``
    says how far outside the worse of the two is. ``far_beyond_data``: the reducible loss is below a quarter of the
    smallest fitted one. ``loss`` in nats per token; ``flops`` is the compute that ``anchor`` names (of the new one
    for ``loss``). ``sources``: its spread over other choices, where these were tried.
    """

    a: str
    b: str
    gain: float
    interval: tuple[float, float] | None
    in_range: bool
    anchor: str
    method: str
    loss: float
    flops: float
    flops_a: float
    flops_b: float
    decades_beyond: float
    far_beyond_data: bool
    sources: Sources | None = None


@dataclass(frozen=True, eq=False)
class GainFunction:
    """The gain over ``flops``; ``gain``, ``lo``, ``hi``, ``in_range`` have its shape (n,). NaN ends: no interval."""

    a: str
    b: str
    anchor: str
    method: str
    flops: FloatArray
    gain: FloatArray
    lo: FloatArray
    hi: FloatArray
    in_range: NDArray[np.bool_]


def log_gain_new(old: LogLaw, new: LogLaw, log_flops: FloatArray) -> FloatArray:
    """``ln G`` at the new law's ``ln C``: ``inf`` where the old law never reaches that loss. Shapes broadcast."""
    # E_B - E_A is exactly 0 under a shared E, so nothing cancels there.
    reducible = (new.E - old.E) + np.exp(new.log_reducible(log_flops))
    return np.asarray(old.log_compute(reducible) - log_flops)


def log_gain_old(old: LogLaw, new: LogLaw, log_flops: FloatArray) -> FloatArray:
    """``ln H`` at the old law's ``ln C``: ``-inf`` where the new law never reaches that loss. Shapes broadcast."""
    reducible = (old.E - new.E) + np.exp(old.log_reducible(log_flops))
    return np.asarray(log_flops - new.log_compute(reducible))


def log_gain_at_loss(old: LogLaw, new: LogLaw, loss: float) -> FloatArray:
    """``ln(C_A/C_B)`` at ``loss``: ``inf``, ``-inf``, or NaN where neither law reaches it and no gain exists."""
    log_a, log_b = old.log_compute(loss - old.E), new.log_compute(loss - new.E)
    neither = np.isinf(log_a) & np.isinf(log_b)
    return np.where(neither, np.nan, np.where(neither, 0.0, log_a) - np.where(neither, 0.0, log_b))


def law_gain(old: PowerLaw, new: PowerLaw, flops: float, anchor: Anchor = "new") -> float:
    """The gain between two laws, of any E each, at ``flops`` spent by the new (G) or the old one (H)."""
    check_anchor(anchor)
    _check_positive("flops", flops, "FLOPs")
    log_gain = log_gain_new if anchor == "new" else log_gain_old
    return _exp(float(log_gain(old.parameters, new.parameters, np.asarray(math.log(flops)))))


def gain_at_flops(
    fit: FrontierFit, a: str, b: str, flops: float, anchor: Anchor = "new", *, boot: Bootstrap | None = None
) -> Gain:
    """The gain of new ``b`` over old ``a`` where ``flops`` are spent by the new (``anchor='new'``) or the old one.

    The interval comes from the draws of ``boot`` (None: no interval). Raises InputError for an architecture without a
    law, ``flops`` that are not positive, or an unknown anchor.
    """
    old, new = laws_of(fit, a, b)
    gain = law_gain(old, new, flops, anchor)
    log_gain = log_gain_new if anchor == "new" else log_gain_old
    log_c = np.asarray(math.log(flops))
    log_value = float(log_gain(old.parameters, new.parameters, log_c))
    if anchor == "new":
        flops_a, flops_b, loss = _exp(float(log_c) + log_value), flops, new.loss(flops)
    else:
        flops_a, flops_b, loss = flops, _exp(float(log_c) - log_value), old.loss(flops)
    draws = None if boot is None else log_gain(boot.law(a), boot.law(b), log_c)
    return _gain(fit, a, b, gain, draws, boot, anchor, loss, flops, flops_a, flops_b)


def gain_at_loss(fit: FrontierFit, a: str, b: str, loss: float, *, boot: Bootstrap | None = None) -> Gain:
    """The gain of new ``b`` over old ``a`` at ``loss`` nats per token; ``flops`` of the result is what ``b`` spends.

    A draw in which neither law reaches ``loss`` says nothing and counts against both ends of the interval. Raises
    InputError for an architecture without a law, a loss that is not positive, or one that neither law ever reaches.
    """
    old, new = laws_of(fit, a, b)
    _check_positive("loss", loss, "nats per token")
    log_gain = float(log_gain_at_loss(old.parameters, new.parameters, loss))
    if math.isnan(log_gain):
        floor = min(old.E, new.E)
        raise InputError(
            "no gain at this loss: neither law ever reaches it",
            got=loss,
            expected=f"a loss above {floor:.6g} nats per token",
        )
    draws = None if boot is None else log_gain_at_loss(boot.law(a), boot.law(b), loss)
    flops_a, flops_b = old.compute(loss), new.compute(loss)
    return _gain(fit, a, b, _exp(log_gain), draws, boot, "loss", loss, flops_b, flops_a, flops_b)


def gain_function(
    fit: FrontierFit, boot: Bootstrap | None, a: str, b: str, flops_grid: FloatArray, anchor: Anchor = "new"
) -> GainFunction:
    """The gain at every compute of ``flops_grid``, shape (n,), in FLOPs > 0; pointwise intervals from the draws.

    Raises InputError for an architecture without a law, an unknown anchor, or compute that is not positive.
    """
    old, new = laws_of(fit, a, b)
    check_anchor(anchor)
    flops = np.asarray(flops_grid, dtype=np.float64)
    if flops.ndim != 1 or not np.all(np.isfinite(flops) & (flops > 0)):
        raise InputError("bad flops_grid", got=f"shape {flops.shape}", expected="a vector of finite numbers > 0")
    log_gain = log_gain_new if anchor == "new" else log_gain_old
    log_c = np.log(flops)
    value = log_gain(old.parameters, new.parameters, log_c)
    log_a, log_b = (log_c + value, log_c) if anchor == "new" else (log_c, log_c - value)
    inside = np.array([_beyond(fit, a, x) == 0 and _beyond(fit, b, z) == 0 for x, z in zip(log_a, log_b, strict=True)])
    ends = np.full((2, flops.size), np.nan)
    if boot is not None:
        law_a, law_b = boot.law(a), boot.law(b)
        for i, point in enumerate(log_c):
            found = percentiles(log_gain(law_a, law_b, np.asarray(point)), boot.level)
            ends[:, i] = (np.nan, np.nan) if found is None else found
    with np.errstate(over="ignore"):
        gain, (lo, hi) = np.exp(value), np.exp(ends)
    return GainFunction(a, b, anchor, _method(a, b, boot), flops, gain, lo, hi, inside)


def laws_of(fit: FrontierFit, a: str, b: str) -> tuple[PowerLaw, PowerLaw]:
    """The laws of old ``a`` and new ``b``. Raises InputError, with nearest name or reason, if one has none."""
    known = (*fit.laws, *fit.left_out)
    for arch in (a, b):
        require_arch(arch, known)
        if arch not in fit.laws:
            count = fit.n_points.get(arch, 0)
            raise InputError(
                f"no law for {arch}: its frontier has too few points",
                got=f"{count} ({fit.reason})",
                expected="3 or more",
            )
    return fit.laws[a], fit.laws[b]


def _gain(
    fit: FrontierFit,
    a: str,
    b: str,
    gain: float,
    draws: FloatArray | None,
    boot: Bootstrap | None,
    anchor: str,
    loss: float,
    flops: float,
    flops_a: float,
    flops_b: float,
) -> Gain:
    ends = None if draws is None or boot is None else percentiles(np.atleast_1d(draws), boot.level)
    beyond = max(_beyond(fit, arch, _log(c)) for arch, c in ((a, flops_a), (b, flops_b)))
    smallest = min(fit.laws[arch].loss(fit.flops_range[arch][1]) - fit.E for arch in (a, b))
    return Gain(
        a=a,
        b=b,
        gain=gain,
        interval=None if ends is None else (_exp(ends[0]), _exp(ends[1])),
        in_range=beyond == 0,
        anchor=anchor,
        method=_method(a, b, boot),
        loss=loss,
        flops=flops,
        flops_a=flops_a,
        flops_b=flops_b,
        decades_beyond=beyond / math.log(10.0),
        far_beyond_data=loss - fit.E < FAR * smallest,
    )


def _method(a: str, b: str, boot: Bootstrap | None) -> str:
    return NO_INTERVAL if boot is None else boot.describe(a, b)


def _beyond(fit: FrontierFit, arch: str, log_flops: float) -> float:
    """Distance in ln C outside the fitted range of ``arch``; 0 inside."""
    low, high = (math.log(end) for end in fit.flops_range[arch])
    outside = max(low - log_flops, log_flops - high)
    return 0.0 if outside <= EDGE else outside


def _exp(value: float) -> float:
    """``e^value`` with overflow to ``inf``: a gain too large for a float is as good as infinite."""
    with np.errstate(over="ignore"):
        return float(np.exp(value))


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def check_anchor(anchor: str) -> None:
    """Raise InputError unless ``anchor`` is ``new`` or ``old``."""
    if anchor not in ("new", "old"):
        raise InputError("unknown anchor", got=anchor, expected="new or old")


def _check_positive(name: str, value: float, unit: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"bad {name}", got=value, expected=f"a finite number > 0, in {unit}")
