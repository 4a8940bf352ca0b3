"""The tables of predictions, learning-rate searches and ablations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from algoprog.report.content import Cell, Grid
from algoprog.report.numbers import between, digits, flops, with_interval
from algoprog.report.style import Look
from algoprog.scaling import PairGains
from algoprog.scaling.predict import Check
from algoprog.scaling.tuning.optimum import Optimum


def predictions_table(checks: Sequence[Check], look: Mapping[str, Look]) -> Grid:
    """Every prediction beside what came."""
    columns = (
        "architecture",
        "FLOPs",
        "predicted, nats/token (95 %)",
        "of the law alone",
        "measured",
        "runs",
        "inside",
    )
    rows = []
    for check in checks:
        told = check.prediction
        inside = {True: Cell("yes", kind="good"), False: Cell("no", kind="bad"), None: Cell("–")}[check.inside]
        rows.append([
            Cell(told.arch, look=look.get(told.arch)), Cell(flops(told.flops), told.flops),
            Cell(with_interval(told.loss, told.interval), told.loss), Cell(between(told.law_interval)),
            Cell("not run yet", kind="open") if check.measured is None else Cell(digits(check.measured, 4), check.measured),
            Cell(str(check.runs), check.runs), inside,
        ])  # fmt: skip
    ended = [check for check in checks if check.inside is not None]
    score = (
        f" {sum(bool(check.inside) for check in ended)} of {len(ended)} measured losses are inside." if ended else ""
    )
    caption = "Lowest loss at a budget: predicted from smaller runs before it was spent, and measured." + score
    return Grid("predictions", caption, columns, rows)


def rates_table(optima: Sequence[Optimum], look: Mapping[str, Look]) -> Grid:
    """Every learning-rate search with its state."""
    columns = (
        "architecture", "width", "FLOPs", "rates tried", "diverged", "best tried", "optimum (95 %)",
        "left on the table, nats/token (95 %)", "state",
    )  # fmt: skip
    caption = (
        "Learning-rate searches. Found: a parabola in the logarithm of the rate has its minimum between the rates tried. "
        "Edge: the best rate is the lowest or highest tried, or its neighbour diverged, so no optimum is claimed. Flat: no "
        "minimum stands out of the noise. No noise: nothing repeats, so there are no intervals."
    )
    return Grid("rates", caption, columns, [_rates(one, look[one.arch]) for one in optima])


def _rates(one: Optimum, look: Look) -> list[Cell]:
    diverged = sum(loss == float("inf") for loss in one.losses)
    # An optimum without an interval is one of a search that could not tell it from noise: its state says so.
    return [
        Cell(one.arch, look=look),
        Cell(f"{one.width:g}", one.width),
        Cell(flops(one.flops), one.flops),
        Cell(f"{len(one.rates)}, {digits(one.rates[0], 2)} to {digits(one.rates[-1], 2)}"),
        Cell(str(diverged), diverged),
        Cell(digits(one.used, 2), one.used),
        Cell("–") if one.rate is None else Cell(with_interval(one.rate, one.interval), one.rate),
        Cell("–") if one.left is None else Cell(with_interval(one.left, one.left_interval), one.left),
        Cell(one.state, kind="good" if one.state == "found" else "bad" if one.state == "edge" else "open"),
    ]


def ablations_table(ablations: Sequence[PairGains], look: Mapping[str, Look]) -> Grid:
    """The gain of the common new architecture over each ablation."""
    columns = ("without", "gain (95 %)", "at FLOPs of the new one", "interval excludes 1")
    caption = f"Gain of {ablations[0].b} over each ablation, at the largest compute inside the data of both."
    return Grid("ablations", caption, columns, [_ablation(pair, Cell(pair.a, look=look[pair.a])) for pair in ablations])


def _ablation(pair: PairGains, name: Cell) -> list[Cell]:
    gain = pair.at_largest
    if gain is None:
        return [name, Cell("none in range", kind="bad"), Cell("–"), Cell("–")]
    apart = gain.interval is not None and not gain.interval[0] <= 1 <= gain.interval[1]
    return [
        name,
        Cell(with_interval(gain.gain, gain.interval), gain.gain),
        Cell(flops(gain.flops_b), gain.flops_b),
        Cell("yes" if apart else "no", kind="good" if apart else ""),
    ]
