"""Tables of the guide about gains: anchors, scale, range, composition, decomposition."""

from __future__ import annotations

from functools import cache

from example import COMPUTES, PAIRS, TRUTH, example, gain, held, true_gain, yes
from pages import table

from algoprog.config import read_yaml
from algoprog.recipes import CONFIGS
from algoprog.report.growth import growth
from algoprog.report.numbers import digits, flops, with_interval
from algoprog.scaling import decompose, gain_at_flops, invariant_map, law_gain, law_map
from algoprog.scaling.ceg import Anchor
from algoprog.scaling.decomposition.estimate import Estimate
from algoprog.scaling.decomposition.result import Decomposition


def anchors() -> str:
    """One compute, spent by the new or by the old architecture."""
    first = gain("lstm", "modern", 1e16)
    found = example().analysis
    ways: tuple[tuple[str, Anchor, float], ...] = (
        ("C = 1e16 spent by modern (new)", "new", 1e16),
        ("C = 1e16 spent by lstm (old)", "old", 1e16),
        (f"C = {flops(first.flops_a, 3)} spent by lstm (old)", "old", first.flops_a),
    )
    rows = []
    for label, anchor, at in ways:
        g = gain_at_flops(found.fit, "lstm", "modern", at, anchor, boot=found.boot)
        true = law_gain(TRUTH["lstm"], TRUTH["modern"], at, anchor)
        matched = [flops(g.flops_a, 3), flops(g.flops_b, 3), f"{g.loss:.3f}"]
        rows.append([label, *matched, with_interval(g.gain, g.interval), digits(true), yes(held(g.interval, true))])
    return table(("compared at", "FLOPs of lstm", "of modern", "loss", "gain (95 %)", "truth", "held"), rows)


def per_decade() -> str:
    """How much each gain grows per decade of compute."""
    rows = []
    for old, new in PAIRS:
        grown = growth(example().analysis, old, new)
        true = 10.0 ** (TRUTH[new].alpha / TRUTH[old].alpha - 1.0)
        ends = grown.per_decade_interval
        rows.append([f"{new} over {old}", with_interval(grown.per_decade, ends), digits(true), yes(held(ends, true))])
    return table(("gain", "factor per decade of compute (95 %)", "truth", "held"), rows)


def reach() -> str:
    """The gain of modern over lstm, ever further from the runs."""
    rows = []
    for at in COMPUTES:
        g, true = gain("lstm", "modern", at), true_gain("lstm", "modern", at)
        inside = "in range" if g.in_range else f"{g.decades_beyond:.1f} decades beyond"
        rows.append(
            [
                flops(at, 3),
                flops(g.flops_a, 3),
                inside,
                with_interval(g.gain, g.interval),
                digits(true),
                yes(held(g.interval, true)),
            ]
        )
    return table(("FLOPs of modern", "FLOPs lstm needs", "runs", "gain (95 %)", "truth", "held"), rows)


def composition() -> str:
    """A chain of gains, multiplied at one compute and composed."""
    at, found = 1e18, example().analysis
    rows = []
    for label, known in (("true laws", TRUTH), ("fitted laws", found.fit.laws)):
        first, second, direct = (
            law_map(*pair, known) for pair in (("lstm", "retro"), ("retro", "modern"), ("lstm", "modern"))
        )
        naive, composed = first.at(at) * second.at(at), first.then(second).at(at)
        rows.append([f"lstm → retro → modern, {label}", digits(naive), digits(composed), digits(direct.at(at))])
        doubled = direct.then(invariant_map("modern", "modern + trick", 2.0)).at(at)
        rows.append([f"lstm → modern → 2× trick, {label}", digits(2 * direct.at(at)), digits(doubled), "–"])
    return table(("gain at 1e18 FLOPs", "factors multiplied at 1e18", "composed", "compared directly"), rows)


@cache
def decomposition() -> tuple[Decomposition, Decomposition]:
    """The shipped decomposition with its constants, and with the laws of the example's sweep."""
    path = CONFIGS / "decompose" / "gundlach-2025.yaml"
    config = read_yaml(path)
    return decompose(config, where=path.name), decompose(config, example().analysis, path.name)


def shares() -> str:
    """The decomposition: the study's arithmetic, composed, and composed with the laws of this sweep."""
    stated, fitted = (found.spans[0] for found in decomposition())
    rows = []
    for name, true in stated.composed.factors.items():
        mine = fitted.composed.factors[name]
        study = f"{digits(stated.study.factors[name].value)}, {100 * stated.study.shares[name].value:.1f} %"
        composed = f"{digits(true.value)}, {100 * stated.composed.shares[name].value:.1f} %"
        rows.append([name, study, composed, _estimate(mine), yes(held(mine.interval, true.value))])
    mine, true = fitted.composed.total, stated.composed.total
    totals = [digits(stated.study.total.value, 5), digits(true.value, 5)]
    rows.append(["total", *totals, _estimate(mine), yes(held(mine.interval, true.value))])
    header = ("2012-2023", "study: at one compute", "composed, true laws", "composed, this sweep (95 %)", "held")
    return table(header, rows)


def _estimate(found: Estimate) -> str:
    if found.interval is None:
        return f"{digits(found.value)} (no interval)"
    low, high = found.interval
    return f"{digits(found.value)} ({digits(low)} to {digits(high)})"
