"""The power of a study on a terminal. Everything printed here is also in the JSON of ``algoprog power``."""

from __future__ import annotations

import math

from algoprog.report.numbers import digits, flops
from algoprog.report.tables import _table as print_table
from algoprog.scaling.planning.power import GainError, GapErrors
from algoprog.scaling.planning.report import Placement, PowerReport

KNOWLEDGE = "E known / shared / separate"


def print_power(report: PowerReport) -> None:
    """Decades and runs, the gain, where to put runs, and the simulated check."""
    study = report.study
    print(
        f"exponents {study.alpha:g} and {study.alpha + study.gap:g}: to see the gap of {study.gap:g} in 80 % of studies (5 % "
        f"two-sided) its standard error must be at most {abs(study.gap) / 2.8:.2g}"
    )
    rows = [
        (
            f"{row.decades:g}",
            _three(row.errors),
            " / ".join(_runs(value) for value in (row.points.known, row.points.shared, row.points.separate)),
            f"{row.break_seen.known:.3f} / {row.break_seen.free:.3f}",
        )
        for row in report.rows
    ]
    columns = ("decades", "SE of the gap", "runs each for 80 %", "break seen by 80 %")
    print_table(f"{study.points} runs each, sigma {study.sigma:g}; {KNOWLEDGE}; break: E known / free", columns, rows)
    print("below about six runs the count is formal: that many are needed to see a law at all")
    largest = report.gain_largest
    inside = largest is not None and report.gain_middle.flops <= largest.flops
    print(f"gain in the middle{'' if inside else ' (not in range)'}: {_gain(report.gain_middle)}")
    if largest is None:
        print("no gain is in range: the two laws share no loss over these runs")
    else:
        print(f"largest gain in range: {_gain(largest)}")
    _print_placement(f"where to put {2 * study.points} runs", "runs", report.by_runs)
    _print_placement(f"where to spend {flops(report.total_flops)} FLOPs", "FLOPs", report.by_flops)
    print("a design on so few budgets cannot show that the law has another form; keep some runs between them")
    _print_check(report)


def _three(errors: GapErrors) -> str:
    return " / ".join(f"{error:.4f}" for error in (errors.known, errors.shared, errors.separate))


def _runs(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "∞"


def _gain(gain: GainError) -> str:
    known, shared = (f"×/÷ {digits(math.exp(1.96 * error))}" for error in (gain.known, gain.shared))
    return (
        f"{digits(gain.gain)} at {flops(gain.flops)} FLOPs, SE of ln G {gain.known:.3f} with E known, {gain.shared:.3f} "
        f"with one E estimated (95 %: {known}, {shared})"
    )


def _print_placement(title: str, of: str, placement: Placement) -> None:
    rows = [
        (spot.arch, flops(spot.flops), f"{100 * spot.share:.0f} %", f"{runs:,.1f}".removesuffix(".0"))
        for spot, runs in zip(placement.spots, placement.runs, strict=True)
    ]
    print_table(title, ("arch", "at FLOPs", f"share of {of}", "runs"), rows)
    ratio = digits(placement.variance_ratio)
    print(
        f"with these shares the variance of the gap (E shared, free) is {ratio} times below that of equal steps of ln C"
    )


def _print_check(report: PowerReport) -> None:
    check, shared = report.check, next(r for r in report.rows if r.decades == report.study.decades).errors.shared
    low, high = check.power_interval
    cover_low, cover_high = check.coverage_interval
    print(f"check: {check.refits} simulated studies refitted with one E, seed {check.seed}")
    print(
        f"  gap {check.mean_gap:.4f} ± {check.mean_error:.4f}, its spread {check.spread:.4f} ± {check.spread_error:.4f} "
        f"(SE above {shared:.4f}); E at its bound in {check.at_bound}"
    )
    print(
        f"  seen in {check.power:.0%} ({low:.0%} to {high:.0%}); 95 % intervals hold the true gap in {check.coverage:.0%} "
        f"({cover_low:.0%} to {cover_high:.0%})"
    )
