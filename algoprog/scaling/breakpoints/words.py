"""What a break test and an extrapolation test found, in plain sentences."""

from __future__ import annotations

from algoprog.scaling.breakpoints.breaks import BreakStatus, BreakTest, Evidence
from algoprog.scaling.breakpoints.extrapolation import Extrapolation
from algoprog.scaling.breakpoints.licensing import contradicted, contradiction, earned, flops_text
from algoprog.scaling.breakpoints.sup_f import MIDDLE, SIDE
from algoprog.scaling.search import SMALLEST_TERM, Status


def break_sentence(test: BreakTest) -> str:
    """The conclusion in one sentence: a break is claimed, is not, or could not be looked for."""
    if test.evidence is None:
        return f"No test for a break: {_untested(test)}."
    found = test.evidence
    p = f"sup F = {found.sup_f:.3g}, p = {found.p_value:.2g}"
    where = f"{flops_text(found.position.interval[0])} to {flops_text(found.position.interval[1])}"
    if found.claimed:
        first, second = found.position.alpha_intervals
        return (
            f"A break is claimed at {flops_text(found.position.flops)} FLOPs ({where}): the exponent goes from "
            f"{found.two.alpha1:.3f} ({first[0]:.3f} to {first[1]:.3f}) to {found.two.alpha2:.3f} ({second[0]:.3f} to "
            f"{second[1]:.3f}), {p}, BIC lower by {found.delta_bic:.1f}."
        )
    if not found.rejected:
        return (
            f"No break is found ({p}); at a known break in the middle, 80 % of such studies would see a change of the "
            f"exponent of {found.detectable.free:.3f} or more."
        )
    against = []
    if found.delta_bic <= 0:
        against.append(f"BIC prefers one law by {-found.delta_bic:.1f}")
    if not found.position.interior:
        against.append(
            f"the break is not inside the range searched ({found.position.share_at_ends:.0%} of bootstrap draws end there)"
        )
    return f"One law fits poorly ({p}), but no break is claimed: {' and '.join(against)}."


def break_warnings(test: BreakTest) -> tuple[str, ...]:
    """What a reader must know beside the conclusion."""
    found = []
    if "budget_runs" in test.points and test.points["budget_runs"].nunique() > 1:
        fewest, most = int(test.points["budget_runs"].min()), int(test.points["budget_runs"].max())
        found.append(
            f"Budgets hold {fewest} to {most} runs of {test.arch}: the best of more runs is lower by luck alone, which can "
            "bend a frontier."
        )
    return tuple(found + (_evidence_warnings(test.evidence) if test.evidence else []))


def _evidence_warnings(found: Evidence) -> list[str]:
    warnings = []
    if found.one.E < SMALLEST_TERM * found.one.loss(found.profile_flops[-1]):
        warnings.append(
            "The irreducible loss E of the single law sits at its bound 0: these points do not determine it."
        )
    elif found.one_status is not Status.CONVERGED:
        warnings.append(f"The fit of the single law did not converge cleanly: {found.one_status.value}.")
    if not found.two_settled:
        warnings.append("The fit of the two-piece law did not settle: its exponents are hardly determined.")
    if min(found.two.alpha1, found.two.alpha2) <= 0:
        warnings.append("The best two-piece law has a loss that rises with compute on one side.")
    return warnings


def _untested(test: BreakTest) -> str:
    if test.status is BreakStatus.TOO_FEW:
        return (
            f"{len(test.points)} points of {test.arch} do not leave {SIDE} on each side of a break in the middle "
            f"{MIDDLE:.0%} of the range"
        )
    if test.status is BreakStatus.EXACT:
        return f"the points of {test.arch} lie on one law to rounding, so there is no noise to test against"
    return f"no law could be fitted to the points of {test.arch}"


def extrapolation_sentence(test: Extrapolation) -> str:
    """What the tests license, in one sentence."""
    high = test.flops_range[1]
    if not test.cuts:
        return f"No extrapolation of {test.arch} is licensed: {len(test.points)} points leave none to predict."
    if contradicted(test):
        return f"No extrapolation of {test.arch} is licensed: {contradiction(test)}."
    cut = earned(test)
    if cut is None:
        return (
            f"No extrapolation of {test.arch} is licensed: no cut of 5 points or more predicted the next point to within "
            f"{test.tolerance:g} in ln L without an error beyond its interval."
        )
    share = f"{test.flags_p:.0%} of simulated studies of the fitted law have as many flags"
    failed = f"; {len(test.failed)} of {len(test.cuts)} cuts failed, but {share}" if test.failed else ""
    return (
        f"Licensed for {test.arch}: {cut.licence_decades:.2f} decades beyond its runs, up to "
        f"{flops_text(high * 10**cut.licence_decades)} FLOPs (the {cut.n} points up to {flops_text(cut.flops)} FLOPs, "
        f"{cut.fitted_decades:.2f} decades, predicted {cut.span_decades:.2f} decades further to within "
        f"{test.tolerance:g} in ln L{failed}). Beyond that the law is a guess."
    )
