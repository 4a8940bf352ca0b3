"""What limits the results of a study, in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from algoprog.scaling.fit import FrontierFit
from algoprog.scaling.intervals.bootstrap import Bootstrap
from algoprog.scaling.search import SMALLEST_TERM, Status
from algoprog.scaling.sensitivity import Sources

if TYPE_CHECKING:
    from algoprog.scaling.study import PairGains  # which imports this module


def study_warnings(
    excluded: Mapping[str, int],
    fit: FrontierFit,
    boot: Bootstrap,
    gains: Sequence[PairGains],
    sources: Sequence[Sources],
) -> tuple[str, ...]:
    """Sentences on everything that limits the results, what was left out first."""
    found = []
    for reason, count in excluded.items():
        found.append(f"{count} {reason} run{'s' if count > 1 else ''} excluded.")
    found += _fit_warnings(fit)
    if not fit.laws:
        return tuple(found)
    if boot.failed:
        found.append(f"{boot.failed} of {boot.draws} bootstrap draws had too few points for a fit.")
    if boot.unstable:
        found.append(
            f"The intervals are unstable: {boot.not_converged} of {boot.draws} bootstrap draws did not converge "
            f"({', '.join(f'{count} {name}' for name, count in boot.status_counts.items() if name != 'converged')})."
        )
    spans = ", ".join(
        f"{arch} {math.log10(high / low):.1f} ({low:.2g} to {high:.2g} FLOPs)"
        for arch, (low, high) in ((arch, fit.flops_range[arch]) for arch in fit.archs)
    )
    found.append(f"Decades of compute covered: {spans}. A gain outside is extrapolation that no test here licenses.")
    for pair in gains:
        if pair.at_largest is None:
            found.append(f"No gain of {pair.b} over {pair.a} is in range: their fitted points share no loss.")
        if pair.at_centre is None:
            found.append(f"The fitted compute ranges of {pair.a} and {pair.b} do not overlap.")
    return (*found, *_disagreements(sources))


def _disagreements(sources: Sequence[Sources]) -> list[str]:
    """Where bootstrap and profile differ in width by more than 1.5."""
    apart = [(one.name, one.width_ratio) for one in sources if one.disagrees]
    if not apart:
        return []
    told = ", ".join(f"{name} ({ratio:.1f})" for name, ratio in apart)
    return [f"Bootstrap and profile-likelihood intervals differ in width by more than a factor 1.5: {told}."]


def _fit_warnings(fit: FrontierFit) -> list[str]:
    found = []
    if not fit.laws:
        found.append(f"No law could be fitted ({fit.reason}).")
    for arch in fit.left_out if fit.laws else ():
        found.append(f"{arch} has no law: its frontier has a single point.")
    if fit.status is Status.TOO_FEW and fit.laws:
        points = sum(fit.n_points[arch] for arch in fit.archs)
        found.append(
            f"Too few points: {points} on the frontier for {fit.n_parameters} parameters "
            f"({', '.join(f'{arch} {fit.n_points[arch]}' for arch in fit.archs)})."
        )
    elif fit.status is not Status.CONVERGED and fit.laws:
        found.append(f"The fit did not converge cleanly: {fit.status.value}.")
    if fit.prior is not None:
        found.append(
            f"A prior on the irreducible loss was used: normal, {fit.prior[0]:g} +- {fit.prior[1]:g} nats per token."
        )
    lowest = min((law.loss(fit.flops_range[arch][1]) for arch, law in fit.laws.items()), default=math.nan)
    if isinstance(fit.irreducible, str) and fit.E < SMALLEST_TERM * lowest:
        found.append("The irreducible loss E sits at its bound 0: these points do not determine it.")
    return found
