"""Gains as maps of compute: they compose, and do not multiply at equal compute.

A gain says how much old compute one unit of new compute is worth, and that depends on the compute. From A over B to C:

* new-anchored: ``G_AC(C) = G_BC(C) G_AB(C G_BC(C))``
* old-anchored: ``H_AC(C) = H_AB(C) H_BC(C/H_AB(C))``

An invariant gain m (the recipe with C reaches what it reached with m C before) is therefore worth ``m^(alpha_B/alpha_A)`` of an
older architecture A, under one irreducible loss. Two anchors do not mix, and a name stands for one law.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from algoprog.scaling.allocation import AllocationGain
from algoprog.scaling.ceg import Anchor, check_anchor, log_gain_new, log_gain_old
from algoprog.scaling.errors import InputError
from algoprog.scaling.gain_theory import log_slope_new, log_slope_old
from algoprog.scaling.laws import FloatArray, PowerLaw

Curve = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, eq=False)
class GainMap:
    """The gain of ``new`` over ``old`` as a function of the compute that ``anchor`` names.

    ``log_gain`` and ``log_slope`` take ln C (any shape) and return ``ln gain`` and ``d ln gain/d ln C``. ``laws``: the law
    that each architecture's name stands for, where it has one.

    NaN in a composed map: the architecture in the middle never reaches the loss, so the chain says nothing there, while
    the outer two may well compare directly.
    """

    old: str
    new: str
    anchor: Anchor
    log_gain: Curve
    log_slope: Curve
    laws: Mapping[str, PowerLaw] = field(default_factory=dict)

    def at(self, flops: float) -> float:
        """The gain at ``flops``; ``inf`` or 0 where one side never reaches the other's loss."""
        return _exp(self.log_gain(_log(flops)))

    def slope(self, flops: float) -> float:
        """``d ln gain/d ln C`` at ``flops``; NaN where the gain is infinite or 0."""
        return float(self.log_slope(_log(flops)))

    def then(self, later: GainMap) -> GainMap:
        """The gain of ``later.new`` over ``self.old``.

        Raises InputError if ``later`` does not start where this one ends, has the other anchor, or knows one of the
        architectures by another law.
        """
        if later.old != self.new:
            raise InputError("these gains do not connect", got=f"{self.new} then {later.old}", expected="one name")
        if later.anchor != self.anchor:
            raise InputError(
                "two anchors in one product", got=f"{self.anchor} then {later.anchor}", expected="one anchor"
            )
        laws = _same_laws(self.laws, later.laws)
        if self.anchor == "new":
            curves = partial(_compose_new, self, later), partial(_compose_new_slope, self, later)
        else:
            curves = partial(_compose_old, self, later), partial(_compose_old_slope, self, later)
        return GainMap(self.old, later.new, self.anchor, *curves, laws)

    def reversed(self) -> GainMap:
        """The gain of ``old`` over ``new``: the reciprocal, and the same compute is now the other side's."""
        other: Anchor = "old" if self.anchor == "new" else "new"
        return GainMap(
            self.new, self.old, other, partial(_negated, self.log_gain), partial(_negated, self.log_slope), self.laws
        )


def law_map(old: str, new: str, laws: Mapping[str, PowerLaw], anchor: Anchor = "new") -> GainMap:
    """The gain between the laws of two architectures. Raises InputError for a name without a law."""
    check_anchor(anchor)
    for name in (old, new):
        if name not in laws:
            raise InputError("no law of this name", got=name, expected=f"one of {', '.join(sorted(laws))}")
    a, b = laws[old].parameters, laws[new].parameters
    value, slope = (log_gain_new, log_slope_new) if anchor == "new" else (log_gain_old, log_slope_old)
    return GainMap(old, new, anchor, partial(value, a, b), partial(slope, a, b), {old: laws[old], new: laws[new]})


def invariant_map(old: str, new: str, gain: float, anchor: Anchor = "new") -> GainMap:
    """The same factor ``gain`` at every compute. Raises InputError unless it is finite and > 0."""
    check_anchor(anchor)
    if not 0 < gain < math.inf:
        raise InputError("bad invariant gain", got=gain, expected="a finite number > 0")
    return GainMap(old, new, anchor, partial(_constant, math.log(gain)), partial(_constant, 0.0))


def allocation_map(old: str, new: str, gain: AllocationGain, anchor: Anchor = "new") -> GainMap:
    """The gain of the compute-optimal division ``new`` over the policy ``old``."""
    check_anchor(anchor)
    if anchor == "new":
        return GainMap(old, new, anchor, gain.log_new, gain.slope_new)
    return GainMap(old, new, anchor, gain.log_old, gain.slope_old)


def _compose_new(first: GainMap, later: GainMap, log_flops: FloatArray) -> FloatArray:
    inner = later.log_gain(log_flops)
    broken = ~np.isfinite(inner)
    outer = first.log_gain(log_flops + np.where(broken, 0.0, inner))
    return np.where(broken, np.nan, inner + outer)


def _compose_new_slope(first: GainMap, later: GainMap, log_flops: FloatArray) -> FloatArray:
    inner = later.log_slope(log_flops)
    return inner + first.log_slope(log_flops + later.log_gain(log_flops)) * (1.0 + inner)


def _compose_old(first: GainMap, later: GainMap, log_flops: FloatArray) -> FloatArray:
    outer = first.log_gain(log_flops)
    broken = ~np.isfinite(outer)
    inner = later.log_gain(log_flops - np.where(broken, 0.0, outer))
    return np.where(broken, np.nan, outer + inner)


def _compose_old_slope(first: GainMap, later: GainMap, log_flops: FloatArray) -> FloatArray:
    outer = first.log_slope(log_flops)
    return outer + later.log_slope(log_flops - first.log_gain(log_flops)) * (1.0 - outer)


def _negated(curve: Curve, log_flops: FloatArray) -> FloatArray:
    return -curve(log_flops)


def _constant(value: float, log_flops: FloatArray) -> FloatArray:
    return np.full_like(np.asarray(log_flops, dtype=np.float64), value)


def _same_laws(one: Mapping[str, PowerLaw], two: Mapping[str, PowerLaw]) -> dict[str, PowerLaw]:
    for name in sorted(set(one) & set(two)):
        if one[name] != two[name]:
            raise InputError(f"two laws for {name}", got=f"{one[name]} and {two[name]}", expected="one law per name")
    return {**one, **two}


def _log(flops: float) -> FloatArray:
    if not 0 < flops < math.inf:
        raise InputError("bad flops", got=flops, expected="a finite number > 0, in FLOPs")
    return np.asarray(math.log(flops))


def _exp(value: FloatArray) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(value))
