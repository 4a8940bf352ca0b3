"""The sources of spread of every result of a study: exponents, gaps, slopes and gains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from algoprog.scaling.ceg import Gain, log_gain_at_loss, log_gain_new, log_gain_old
from algoprog.scaling.fit import FrontierFit
from algoprog.scaling.intervals.bootstrap import Bootstrap, percentiles
from algoprog.scaling.intervals.likelihood import Likelihood, Quantity
from algoprog.scaling.sensitivity import Choice, Range, Sources, source

if TYPE_CHECKING:
    from algoprog.scaling.study import Analysis, PairGains  # which imports this module


def study_sources(
    fit: FrontierFit,
    boot: Bootstrap,
    profile: Likelihood | None,
    choices: Sequence[Choice],
    gains: Sequence[PairGains],
) -> tuple[Sources, ...]:
    """One per exponent, then per pair its gap, slope and gains at the largest compute in range and at the centre."""
    found = [_one("exponent", (arch,), "", _exponent(arch), fit, boot, profile, choices) for arch in fit.archs]
    for pair in gains:
        both = (pair.a, pair.b)
        found.append(_one("gap", both, "", _gap(*both), fit, boot, profile, choices))
        found.append(_exp(_one("slope", both, "", _log_slope(*both), fit, boot, profile, choices)))
        found += [
            gain_sources(gain, fit, boot, profile, choices)
            for gain in (pair.at_largest, pair.at_centre)
            if gain is not None
        ]
    return tuple(found)


def gain_sources(
    gain: Gain, fit: FrontierFit, boot: Bootstrap, profile: Likelihood | None, choices: Sequence[Choice]
) -> Sources:
    """The sources of spread of one gain, at the compute or the loss that its anchor names."""
    old, new, log_c = gain.a, gain.b, np.asarray(math.log(gain.flops))
    quantity: Quantity
    if gain.anchor == "loss":
        place = f"at a loss of {gain.loss:.4g}"
        quantity = lambda laws: log_gain_at_loss(laws[old], laws[new], gain.loss)  # noqa: E731
    else:
        whose = "" if gain.anchor == "new" else f" of {old}"
        place = f"at {gain.flops:.2g} FLOPs{whose}".replace("e+", "e")
        log_gain = log_gain_new if gain.anchor == "new" else log_gain_old
        quantity = lambda laws: log_gain(laws[old], laws[new], log_c)  # noqa: E731
    return _exp(_one("gain", (old, new), place, quantity, fit, boot, profile, choices))


def with_sources(analysis: Analysis, gain: Gain) -> Gain:
    """``gain``, made from ``analysis``, with its sources of spread."""
    found = gain_sources(gain, analysis.fit, analysis.boot, analysis.profile, analysis.choices)
    return replace(gain, sources=found)


def sources_json(found: Sources) -> dict[str, Any]:
    """``{"quantity", "archs", "place", "estimate", "bootstrap", "profile", "ranges"}``; ranges by what was varied."""
    ranges = {"E_in_profile_set": found.profile_e, "E_fixed": found.fixed_e, "frontier_rule": found.frontier}
    return {
        "quantity": found.quantity,
        "archs": list(found.archs),
        "place": found.place,
        "estimate": found.estimate,
        "bootstrap": found.sampling,
        "profile": found.profile,
        "ranges": {name: None if part is None else asdict(part) for name, part in ranges.items()},
    }


def _one(
    quantity: str,
    archs: tuple[str, ...],
    place: str,
    function: Quantity,
    fit: FrontierFit,
    boot: Bootstrap,
    profile: Likelihood | None,
    choices: Sequence[Choice],
) -> Sources:
    sampling = percentiles(np.asarray(function({arch: boot.law(arch) for arch in fit.archs})), boot.level)
    return source(quantity, archs, place, function, fit, sampling, profile, choices)


def _exponent(arch: str) -> Quantity:
    return lambda laws: laws[arch].alpha


def _gap(old: str, new: str) -> Quantity:
    return lambda laws: laws[new].alpha - laws[old].alpha


def _log_slope(old: str, new: str) -> Quantity:
    """ln of the factor on the gain per decade of compute, under one E for both."""
    return lambda laws: math.log(10.0) * (laws[new].alpha / laws[old].alpha - 1.0)


def _exp(logs: Sources) -> Sources:
    """The same source with its numbers taken out of logarithms."""

    def up(value: float) -> float:
        with np.errstate(over="ignore"):
            return float(np.exp(value))

    def both(ends: tuple[float, float] | None) -> tuple[float, float] | None:
        return None if ends is None else (up(ends[0]), up(ends[1]))

    def span(found: Range | None) -> Range | None:
        return (
            None if found is None else Range(up(found.low), up(found.high), found.low_at, found.high_at, found.choices)
        )

    return Sources(
        logs.quantity, logs.archs, logs.place, up(logs.estimate), both(logs.sampling), both(logs.profile),
        span(logs.profile_e), span(logs.fixed_e), span(logs.frontier),
    )  # fmt: skip
