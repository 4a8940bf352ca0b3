"""Where the spread of a result comes from: sampling, the irreducible loss, the frontier rule. Kept apart, never added.

Sampling gives an interval. The other two are choices, and give a range of point estimates over admissible choices:

* E over its 95 % profile set, and E held at the values of a strip (:data:`STRIP`);
* every frontier rule that these runs allow, lower cuts on C under the rule that was asked for, and, where learning rates
  were searched, every frontier run moved to the loss at its fitted optimal rate.

A range is not a posterior and has no level. Adding it in quadrature to an interval would make it one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.fit import FrontierFit, Irreducible, Objective, fit_frontiers
from algoprog.scaling.frontier import frontier_by_rule
from algoprog.scaling.intervals.likelihood import Likelihood, Quantity
from algoprog.scaling.laws import LogLaw
from algoprog.scaling.search import Status
from algoprog.scaling.tuning.frontier import at_optimal_rates

STRIP = (0.0, 1.3, 1.5, 1.7, 1.9, 2.2)
"""Values of E, nats per token, that every result is also given at; those not below the lowest loss are dropped."""

RULES = ("final", "envelope", "slices", "surface")
CUTS = (0.2, 0.4)  # parts of the range of ln C that lower cuts leave out
WIDER = 1.5  # ratio of the widths of two intervals for one thing beyond which they do not agree

Kind = Literal["fixed E", "rule", "lower cut", "learning rate"]
PriorOnE = tuple[float, float] | None


@dataclass(frozen=True)
class Choice:
    """Laws under another admissible choice: ``label`` names it, ``fit`` is None where it cannot be made (``why``)."""

    kind: Kind
    label: str
    fit: FrontierFit | None
    why: str = ""


@dataclass(frozen=True)
class Range:
    """The lowest and the highest point estimate over choices, with the choices that gave them; not an interval."""

    low: float
    high: float
    low_at: str
    high_at: str
    choices: int


@dataclass(frozen=True)
class Sources:
    """One result and its sources of spread.

    ``quantity``: ``exponent`` (of ``archs[0]``), ``gap`` of the exponents, ``slope`` (factor on the gain per decade of
    compute) or ``gain`` of new ``archs[1]`` over old ``archs[0]``, ``place`` says where. ``sampling``: bootstrap
    interval; ``profile``: profile-likelihood interval of the same level (None: not to be had). Ranges: ``profile_e`` over
    the profile set of E, ``fixed_e`` over the strip, ``frontier`` over rules and cuts (None: no other choice).
    """

    quantity: str
    archs: tuple[str, ...]
    place: str
    estimate: float
    sampling: tuple[float, float] | None
    profile: tuple[float, float] | None
    profile_e: Range | None
    fixed_e: Range | None
    frontier: Range | None

    @property
    def name(self) -> str:
        """In words, for tables and warnings."""
        if self.quantity == "exponent":
            return f"exponent of {self.archs[0]}"
        pair = f"{self.archs[1]} over {self.archs[0]}"
        if self.quantity == "gain":
            return f"gain of {pair} {self.place}"
        return f"exponent gap of {pair}" if self.quantity == "gap" else f"factor per decade of {pair}"

    @property
    def width_ratio(self) -> float:
        """Width of the wider over the narrower of bootstrap and profile, in ln of gains; NaN without both."""
        if self.sampling is None or self.profile is None:
            return math.nan
        widths = []
        for low, high in (self.sampling, self.profile):
            logs = self.quantity in ("gain", "slope")
            widths.append(_log(high) - _log(low) if logs else high - low)
        narrow, wide = sorted(widths)
        return wide / narrow if 0 < narrow < math.inf else (1.0 if narrow == wide else math.inf)

    @property
    def disagrees(self) -> bool:
        """True if the two intervals differ in width by more than 1.5."""
        return self.width_ratio > WIDER


def choices_of(
    points: pd.DataFrame,
    frontier: pd.DataFrame,
    fit: FrontierFit,
    rule: str,
    tolerance: float,
    loss: Objective,
) -> tuple[Choice, ...]:
    """Every other admissible choice for the laws of ``fit``, each refitted.

    ``points``: all rows as from ``load_runs`` inside the cuts on C; ``frontier``: the rows that ``fit`` was fitted to, by
    ``rule``. A choice that these runs do not allow has no fit and says why.
    """
    if not fit.laws:
        return ()
    found = [_fixed(frontier, fit, value) for value in STRIP if value < float(frontier["loss"].min())]
    for other in RULES:
        if other != rule:
            found.append(_by_rule(points, other, fit.irreducible, tolerance, loss, fit.prior))
    low, high = float(frontier["flops"].min()), float(frontier["flops"].max())
    for part in CUTS:
        first = low * (high / low) ** part
        kept = frontier[frontier["flops"] >= first]
        label = f"{rule}, from {first:.2g} FLOPs".replace("e+", "e")
        found.append(_refitted("lower cut", label, kept, fit.irreducible, loss, fit.prior))
    tuned = at_optimal_rates(points, frontier, tolerance)
    if tuned is not None:
        label = "at the optimal learning rates"
        found.append(_refitted("learning rate", label, tuned, fit.irreducible, loss, fit.prior))
    return tuple(found)


def source(
    quantity: str,
    archs: tuple[str, ...],
    place: str,
    function: Quantity,
    fit: FrontierFit,
    sampling: tuple[float, float] | None,
    profile: Likelihood | None,
    choices: Sequence[Choice],
) -> Sources:
    """The sources of spread of ``function`` of the laws; ``sampling``: its bootstrap interval."""
    estimate = at_laws(function, fit)
    ends = None if profile is None else profile.interval(function)
    fixed = _range(function, estimate, [c for c in choices if c.kind == "fixed E"], archs)
    rules = _range(function, estimate, [c for c in choices if c.kind in ("rule", "lower cut", "learning rate")], archs)
    over_e = None if profile is None or not isinstance(fit.irreducible, str) else _over_profile(function, profile)
    return Sources(quantity, archs, place, estimate, sampling, ends, over_e, fixed, rules)


def at_laws(function: Quantity, fit: FrontierFit) -> float:
    """``function`` of the fitted laws."""
    return float(function(_vectors(fit))[0])


def _vectors(fit: FrontierFit) -> Mapping[str, LogLaw]:
    return {arch: LogLaw(*(np.atleast_1d(part) for part in law.parameters)) for arch, law in fit.laws.items()}


def _fixed(frontier: pd.DataFrame, fit: FrontierFit, value: float) -> Choice:
    # The objective of the fit, knee included: what varies is E alone.
    if math.isinf(fit.knee):
        held = fit_frontiers(frontier, value, loss="squared")
    else:
        held = fit_frontiers(frontier, value, loss="huber", knee=fit.knee)
    return _admit("fixed E", f"E = {value:g}", held)


def _by_rule(
    points: pd.DataFrame, rule: str, irreducible: Irreducible, tolerance: float, loss: Objective, prior: PriorOnE
) -> Choice:
    try:
        rows = frontier_by_rule(points, rule, tolerance=tolerance).rows
    except InputError as error:
        return Choice("rule", rule, None, str(error))
    return _refitted("rule", rule, rows, irreducible, loss, prior)


def _refitted(
    kind: Kind, label: str, rows: pd.DataFrame, irreducible: Irreducible, loss: Objective, prior: PriorOnE
) -> Choice:
    try:
        fit = fit_frontiers(rows, "shared" if irreducible == "profile" else irreducible, loss=loss, prior=prior)
    except InputError as error:
        return Choice(kind, label, None, str(error))
    return _admit(kind, label, fit)


def _admit(kind: Kind, label: str, fit: FrontierFit) -> Choice:
    if not fit.laws or fit.status in (Status.TOO_FEW, Status.ABNORMAL, Status.DID_NOT_MOVE):
        return Choice(kind, label, None, f"{fit.status.value}: {fit.reason}")
    return Choice(kind, label, fit)


def _range(function: Quantity, estimate: float, choices: Sequence[Choice], archs: tuple[str, ...]) -> Range | None:
    """Over the given choices and the one that was made."""
    usable = [c for c in choices if c.fit is not None and set(archs) <= set(c.fit.laws)]
    if not usable:
        return None
    values = [estimate] + [at_laws(function, c.fit) for c in usable if c.fit is not None]
    labels = ["as fitted"] + [c.label for c in usable]
    low, high = int(np.argmin(values)), int(np.argmax(values))
    return Range(values[low], values[high], labels[low], labels[high], len(values))


def _over_profile(function: Quantity, profile: Likelihood) -> Range:
    e, values = profile.over_e(function)
    low, high = int(np.argmin(values)), int(np.argmax(values))
    return Range(float(values[low]), float(values[high]), f"E = {e[low]:.3g}", f"E = {e[high]:.3g}", e.size)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf
