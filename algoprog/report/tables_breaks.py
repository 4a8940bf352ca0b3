"""The tests of one law on a terminal. Everything printed here is also in the JSON of ``algoprog breaks``."""

from __future__ import annotations

import numpy as np

from algoprog.report.numbers import count, digits, flops
from algoprog.report.tables import _table as print_table
from algoprog.report.tables import print_mapping, print_warnings
from algoprog.scaling.breakpoints.breaks import BreakTest
from algoprog.scaling.breakpoints.commands import LawTests
from algoprog.scaling.breakpoints.extrapolation import Cut, Extrapolation
from algoprog.scaling.breakpoints.words import break_sentence, break_warnings, extrapolation_sentence


def print_breaks(found: LawTests) -> None:
    """The break test, the table of cuts, the sentences, the warnings."""
    _print_test(found.test)
    _print_cuts(found.extrapolation)
    print(break_sentence(found.test))
    print(extrapolation_sentence(found.extrapolation))
    if found.licence is not None:
        print(found.licence.sentence)
    left_out = [f"{count(number, 'run')} left out: {reason}." for reason, number in found.excluded.items()]
    print_warnings([*left_out, *break_warnings(found.test)])


def _print_test(test: BreakTest) -> None:
    found = test.evidence
    if found is None:
        return
    low, high = found.position.interval
    p_low, p_high = found.p_interval
    (first, second), (e_low, e_high) = found.position.alpha_intervals, found.position.E_interval
    # Where one law is rejected, the change that a study could see about that law says nothing.
    seen = (
        "n/a: one law is rejected" if found.rejected else f"{found.detectable.known:.4f}, {found.detectable.free:.4f}"
    )
    print_mapping(
        f"one law or two? {test.arch}, {count(len(test.points), 'point')}",
        {
            "sup F; simulated 5 % point": f"{digits(found.sup_f)}; {digits(found.critical)}",
            "p (Monte-Carlo error)": f"{digits(found.p_value)} ({digits(p_low)} to {digits(p_high)})",
            "BIC, AICc: one law minus two": f"{found.delta_bic:.1f}, {found.delta_aicc:.1f}",
            "best break, FLOPs": f"{flops(found.position.flops)} ({flops(low)} to {flops(high)})",
            "exponent before the break": f"{found.two.alpha1:.3f} ({first[0]:.3f} to {first[1]:.3f})",
            "exponent after it": f"{found.two.alpha2:.3f} ({second[0]:.3f} to {second[1]:.3f})",
            "E of two pieces": f"{digits(found.two.E)} ({digits(e_low)} to {digits(e_high)})",
            "exponent of one law": f"{found.one.alpha:.3f}, E {digits(found.one.E)}, sigma {digits(found.sigma)}",
            "BIC of a pure power law, one law": f"{found.models[0].bic:.1f}, {found.models[1].bic:.1f}",
            "change seen by 80 %: E known, free": seen,
        },
    )
    print(test.method)


def _print_cuts(found: Extrapolation) -> None:
    if not found.cuts:
        return
    columns = ("up to", "n", "E", "alpha", "error", "within", "flags", "verdict", "licence")
    rows = [_cut_row(cut) for cut in found.cuts]
    print_table(f"every later point predicted from every cut, {found.arch}", columns, rows)
    crossed = found.cusum is not None and found.cusum.crossed
    print(
        f"error: the largest, within: 95 % half-width of the farthest prediction (n - 3 degrees of freedom), both in ln L; "
        f"tolerance {found.tolerance:g}; licence in decades; CUSUM {'outside' if crossed else 'inside'} its 95 % limit"
    )


def _cut_row(cut: Cut) -> tuple[str, ...]:
    worst = float(cut.error[np.argmax(np.abs(cut.error))])
    return (
        flops(cut.flops),
        str(cut.n),
        digits(cut.E),
        f"{cut.alpha:.3f}",
        f"{worst:+.4f}".replace("-", "−"),
        digits(float(cut.half_width[-1]), 2),
        str(int(cut.flagged.sum())),
        cut.verdict.value.replace("_", " "),
        f"{cut.licence_decades:.2f}",
    )
