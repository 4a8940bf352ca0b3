"""Tables of the guide about breaks, licences and power."""

from __future__ import annotations

from functools import cache

import numpy as np
from example import COMPUTES, DESIGN, DRAWS, SEED, TRUTH, example, gain, reducible, sigma, stalling
from pages import table
from scipy.special import fdtrc

from algoprog.report.numbers import digits, flops
from algoprog.scaling import (
    BreakTest,
    Extrapolation,
    GapStudy,
    break_test,
    extrapolate,
    final_frontier,
    final_points,
    gain_licences,
    power_report,
)
from algoprog.scaling.breakpoints.chow import chow_f
from algoprog.scaling.breakpoints.extrapolation import TOLERANCE
from algoprog.scaling.breakpoints.licensing import earned
from algoprog.scaling.planning.report import PowerReport

TESTED = ("lstm", "modern", "stalls")
TEST_DRAWS = 999


@cache
def law_tests() -> dict[str, tuple[BreakTest, Extrapolation]]:
    """Both tests of every architecture of ``TESTED``, as ``algoprog breaks`` makes them."""
    found = {}
    for arch in TESTED:
        runs = example().stalls if arch == "stalls" else example().runs
        frontier = final_frontier(final_points(runs[runs["arch"] == arch]))
        found[arch] = break_test(frontier, TEST_DRAWS, SEED), extrapolate(frontier, TOLERANCE, TEST_DRAWS, SEED)
    return found


def breaks() -> str:
    """The test for a break, and the one that forgets E."""
    rows = []
    for arch, (test, _) in law_tests().items():
        found = test.evidence
        assert found is not None
        chow = chow_p(test)
        claim, place, seen = "no", "–", f"{found.detectable.free:.3f}"
        if test.claimed:
            claim, seen = "**yes**", "–"
            place = "{} ({} to {})".format(*map(flops, (found.position.flops, *found.position.interval)))
        pieces = f"{found.two.alpha1:.3f}, {found.two.alpha2:.3f} (E {digits(found.two.E, 2)})"
        true = f"{flops(stalling().d)}: {stalling().alpha1}, {stalling().alpha2}" if arch == "stalls" else "no break"
        p = "< 1e-6" if chow < 1e-6 else digits(chow, 2)
        rows.append([arch, true, digits(found.p_value, 2), claim, place, pieces, seen, p])
    first = ("", "truth: break, exponents", "p of sup F", "claimed", "where, FLOPs", "exponents of two pieces")
    header = (*first, "change that 80 % would see", "p of two straight lines")
    return table(header, rows)


def chow_p(test: BreakTest) -> float:
    """p of two straight lines against one in log-log coordinates, split in the middle: the test that forgets E."""
    x, y = (np.log(test.points[name].to_numpy(dtype=np.float64)) for name in ("flops", "loss"))
    return float(fdtrc(2, x.size - 4, chow_f(x, y[None, :], [x.size // 2])[0, 0]))


def licences() -> str:
    """How far the tests let the laws go."""
    tried = {arch: extrapolation for arch, (_, extrapolation) in law_tests().items()}
    rows = []
    for at in COMPUTES:
        old, new = gain_licences(gain("lstm", "modern", at), tried)
        words = [f"{flops(one.target_flops)}: {one.status.value.replace('_', ' ')}" for one in (old, new)]
        rows.append([flops(at, 3), *words, "**yes**" if old.allowed and new.allowed else "no"])
    limit = ", ".join(f"{arch} {_limit(tried[arch])}" for arch in ("lstm", "modern"))
    lstm = tried["lstm"]
    chance = (
        f"{len(lstm.failed)} of {len(lstm.cuts)} cuts of lstm failed, as many as in {100 * lstm.flags_p:.0f} % of simulated "
        "studies of an unbroken law."
    )
    header = ("gain at FLOPs", "law of lstm at", "law of modern at", "may be used")
    return f"{table(header, rows)}\n\nLicensed beyond the runs: {limit}. {chance}"


def _limit(test: Extrapolation) -> str:
    cut = earned(test)
    return "nothing" if cut is None else f"{cut.licence_decades:.2f} decades"


@cache
def planned() -> PowerReport:
    """What could be known of the example's gap of modern over lstm before a single run."""
    gap = round(TRUTH["modern"].alpha - TRUTH["lstm"].alpha, 6)
    return power_report(
        GapStudy(
            gap, DESIGN.decades, sigma(), DESIGN.budgets, DESIGN.lowest, TRUTH["lstm"].E,
            round(reducible("lstm"), 2), round(reducible("modern"), 2), TRUTH["lstm"].alpha,
        )
    )  # fmt: skip


def power() -> str:
    """What could be known of the exponent gap before a single run."""
    report = planned()
    rows = []
    for row in report.rows:
        if row.decades <= 4:
            errors = [f"{value:.4f}" for value in (row.errors.known, row.errors.shared, row.errors.separate)]
            points = " / ".join(f"{value:,.0f}" for value in (row.points.known, row.points.shared, row.points.separate))
            rows.append([f"{row.decades:g}", *errors, points])
    header = ("decades", "SE, E known", "SE, one E for both", "SE, an E each", "runs each for a gap of 0.029")
    boot = example().analysis.boot
    spread = float(np.std(boot.law("modern").alpha - boot.law("lstm").alpha, ddof=1))
    shared = next(row for row in report.rows if row.decades == DESIGN.decades).errors.shared
    told = f"Foreseen with one E over three decades: {shared:.4f}. Found afterwards, spread of {DRAWS} draws: {spread:.4f}."
    return f"{table(header, rows)}\n\n{told}"
