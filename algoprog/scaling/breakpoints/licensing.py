"""How far beyond its runs a law may be used: no further than such a prediction has been tried and has held.

A cut that passed (module ``extrapolation``) licenses ``min(span it predicted, range it was fitted to)`` in
decades. If there are more flags than chance gives, or the CUSUM leaves its limit, nothing is licensed: a failure can mean the
law, the noise model, tuning that drifts with scale, or repeated data.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from algoprog.scaling.breakpoints.extrapolation import Cut, CutVerdict, Extrapolation
from algoprog.scaling.ceg import EDGE, Gain
from algoprog.scaling.errors import InputError

RARE = 0.05  # as many flags as this rarely happen to a law that holds


class LicenceStatus(enum.StrEnum):
    """``in_range``: nothing is extrapolated; ``licensed``; ``unlicensed``: further than any passed test, or no test
    passed; ``failed``: the tests contradict the law."""

    IN_RANGE = "in_range"
    LICENSED = "licensed"
    UNLICENSED = "unlicensed"
    FAILED = "failed"


@dataclass(frozen=True)
class Licence:
    """Whether one architecture's law may be used at ``target_flops``.

    ``decades``: what is licensed beyond ``flops_range`` (0 if nothing is); ``beyond``: decades that the target lies
    beyond it; ``earned_by``: FLOPs of the cut that earned the licence, None without one. ``sentence`` says it in words.
    """

    arch: str
    status: LicenceStatus
    target_flops: float
    flops_range: tuple[float, float]
    decades: float
    beyond: float
    earned_by: float | None
    tolerance: float
    sentence: str

    @property
    def allowed(self) -> bool:
        """True for a target in range or licensed."""
        return self.status in (LicenceStatus.IN_RANGE, LicenceStatus.LICENSED)


def earned(test: Extrapolation) -> Cut | None:
    """The cut that licenses most, or None if no cut passed or the tests contradict the law."""
    passed = [cut for cut in test.cuts if cut.verdict is CutVerdict.PASSED]
    return None if contradicted(test) or not passed else max(passed, key=lambda cut: cut.licence_decades)


def contradicted(test: Extrapolation) -> bool:
    """True if there are more flags than chance gives, or the CUSUM leaves its limit: each at the 5 % level."""
    return test.flags_p <= RARE or (test.cusum is not None and test.cusum.crossed)


def licence(test: Extrapolation, target_flops: float) -> Licence:
    """The licence of ``test`` for a law used at ``target_flops``.

    Infinite FLOPs (a loss that the law never reaches) and 0 are unlicensed. Raises InputError for a number < 0 or NaN.
    """
    if not target_flops >= 0:
        raise InputError("bad target", got=target_flops, expected="FLOPs >= 0")
    low, high = test.flops_range
    with np.errstate(divide="ignore"):
        target = float(np.log10(target_flops))
    beyond = max(target - math.log10(high), math.log10(low) - target, 0.0)
    cut = earned(test)
    decades = cut.licence_decades if cut else 0.0
    if beyond <= EDGE:
        status = LicenceStatus.IN_RANGE
    elif contradicted(test):
        status = LicenceStatus.FAILED
    elif target_flops > high and beyond <= decades + EDGE:
        status = LicenceStatus.LICENSED
    else:
        status = LicenceStatus.UNLICENSED
    flops = None if cut is None else cut.flops
    words = _sentence(test, status, target_flops, beyond, cut)
    return Licence(test.arch, status, target_flops, test.flops_range, decades, beyond, flops, test.tolerance, words)


def gain_licences(gain: Gain, tests: Mapping[str, Extrapolation]) -> tuple[Licence, Licence]:
    """The licences of the old and the new law at the computes that ``gain`` compares, in this order.

    ``tests`` by architecture. Raises InputError if one is missing.
    """
    for arch in (gain.a, gain.b):
        if arch not in tests:
            raise InputError(f"no extrapolation test of {arch}", got=", ".join(tests) or "none")
    return licence(tests[gain.a], gain.flops_a), licence(tests[gain.b], gain.flops_b)


def flops_text(flops: float) -> str:
    """FLOPs with two digits, 1.5e20."""
    return f"{flops:.1e}".replace("e+", "e")


def _sentence(test: Extrapolation, status: LicenceStatus, target: float, beyond: float, cut: Cut | None) -> str:
    arch, high = test.arch, test.flops_range[1]
    if status is LicenceStatus.IN_RANGE:
        return f"{flops_text(target)} FLOPs lie inside the runs of {arch}: nothing is extrapolated."
    if status is LicenceStatus.FAILED:
        return f"The law of {arch} is unlicensed beyond {flops_text(high)} FLOPs: {contradiction(test)}."
    if not 0 < target < math.inf:
        return f"The law of {arch} names no finite compute here: nothing can license that."
    asked = f"{flops_text(target)} FLOPs is {beyond:.2f} decades beyond the runs of {arch}"
    if target < test.flops_range[0]:
        return f"{asked}, below the cheapest one: predictions are tested upwards only, so this is unlicensed."
    if cut is None:
        return f"{asked}; no cut predicted to within {test.tolerance:g} in ln L, so this is unlicensed."
    told = (
        f"the fit up to {flops_text(cut.flops)} FLOPs ({cut.fitted_decades:.2f} decades, {cut.n} points) predicted "
        f"{cut.span_decades:.2f} decades further to within {test.tolerance:g} in ln L"
    )
    allowed = f"up to {cut.licence_decades:.2f} decades, {flops_text(high * 10**cut.licence_decades)} FLOPs"
    if status is LicenceStatus.LICENSED:
        return f"{asked}, which is licensed ({allowed}): {told}."
    return f"{asked}, which is unlicensed: {told}, and that licenses {allowed}."


def contradiction(test: Extrapolation) -> str:
    """What speaks against the law, for a contradicted test."""
    parts = []
    if test.flags_p <= RARE:
        share = f"{test.flags_p:.1%} of simulated studies of the fitted law have as many flags"
        parts.append(f"{len(test.failed)} of {len(test.cuts)} cuts failed ({share})")
    if test.cusum is not None and test.cusum.crossed:
        parts.append("the sum of one-step errors left its limit")
    return " and ".join(parts)
