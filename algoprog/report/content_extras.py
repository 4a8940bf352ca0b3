"""The tables of predictions, learning-rate searches and ablations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from algoprog.report.ablations import Ablation, at_flops
from algoprog.report.content import Cell, Grid
from algoprog.report.numbers import between, digits, flops, listed, percent, with_interval
from algoprog.report.style import Look
from algoprog.scaling import Gain, MatchedGain
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


def ablations_told(ablations: Sequence[Ablation], level: float) -> str:
    """What the figure of ablations shows, and which gains are from repeats and which from laws."""
    new = ablations[0].new
    matched = [one.matched.flops for one in ablations if one.matched.gain is not None and one.matched.flops]
    without = [one.old for one in ablations if one.bar is not None and one.bar.by_laws]
    below = matched and any(one.by_laws is not None and one.matched.gain is not None for one in ablations)
    parts = [
        f"What each single change is worth: the gain of {new} over each ablation, with {percent(level)} intervals."
    ]
    if matched:
        parts.append(
            f"Bars compare repeated runs at the largest budget that both ran ({at_flops(matched)}); the law of {new} turns "
            "their losses into compute."
        )
    if below:
        parts.append("Thin lines below: the laws of both, at the largest compute inside the data of both.")
    if without:
        which = f"({listed(without)}) " if matched else ""
        parts.append(
            f"Pale bars {which}are gains by the laws of both, at the largest compute inside the data of both; the table says "
            "why repeats give none."
        )
    return " ".join([*parts, "A bar left of 1 means that the ablation is the better one."])


def ablations_table(ablations: Sequence[Ablation], look: Mapping[str, Look], level: float) -> Grid:
    """The gain of the common new architecture over each ablation, by repeats and by laws."""
    told = percent(level)
    columns = (
        "without", f"gain at one budget ({told})", "repeats", "FLOPs", "excludes 1", f"gain by laws of both ({told})",
        "FLOPs of new", "at optimal rates",
    )  # fmt: skip
    new = ablations[0].new
    caption = (
        f"Gain of {new} over each ablation. At one budget: repeated runs of the ablation and of {new}, their losses turned "
        f"into compute by the law of {new}. By laws: at the largest compute inside the data of both. At optimal rates: the "
        "gain at one budget with every loss lowered by what its search of the learning rate left on the table, known only "
        "for searches with an optimum."
    )
    rows = [
        [Cell(one.old, look=look[one.old]), *_matched(one.matched), *_by_laws(one.by_laws), _at_optimal(one.matched)]
        for one in ablations
    ]
    return Grid("ablations", caption, columns, rows)


def _matched(found: MatchedGain) -> list[Cell]:
    runs = Cell(f"{found.repeats[0]} and {found.repeats[1]}" if any(found.repeats) else "–")
    work = Cell("–") if found.flops is None else Cell(flops(found.flops), found.flops)
    if found.gain is None:
        return [Cell(f"none: {found.reason}", kind="open"), runs, work, Cell("–")]
    ends = found.interval
    apart = None if ends is None else not ends[0] <= 1 <= ends[1]
    beyond = "" if found.in_range else f", law extrapolated by {digits(found.decades_beyond, 2)} decades"
    return [
        Cell(with_interval(found.gain, ends) + beyond, found.gain, kind="" if found.in_range else "bad"),
        runs, work, Cell("–") if apart is None else Cell("yes", kind="good") if apart else Cell("no"),
    ]  # fmt: skip


def _at_optimal(found: MatchedGain) -> Cell:
    if found.rates is None or found.at_optimal is None:
        return Cell("–")
    known = found.rates.searches - found.rates.without_optimum
    if known == 0:
        return Cell("not known", kind="open")
    few = "" if known == found.rates.searches else f", {known} of {found.rates.searches} searches"
    return Cell(digits(found.at_optimal) + few, found.at_optimal)


def _by_laws(gain: Gain | None) -> list[Cell]:
    if gain is None:
        return [Cell("none", kind="open"), Cell("–")]
    return [Cell(with_interval(gain.gain, gain.interval), gain.gain), Cell(flops(gain.flops_b), gain.flops_b)]
