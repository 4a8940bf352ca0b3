"""Captions of the study's figures: where its numbers come from, what ours are, and what differs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from algoprog.report.numbers import listed
from algoprog.report.study_runs import Ours, Part
from algoprog.scaling.published import changes, scaling_laws
from algoprog.scaling.published.number import STUDY

LINE = 155  # characters of a caption's line, at its size in the figure's width
THEIRS = f"Left: {STUDY}; C4, GPT-2 tokens, compute by its profiler."
SCALES = (
    "Losses under another corpus and tokenizer cannot be compared; gains can, each at its own scale; exponents depend on E, "
    "too."
)


def captions(ours: Ours) -> dict[str, str]:
    """One caption per figure, by its name."""
    told = _theirs()
    parts: dict[str, tuple[Part[Any], ...]] = {
        "study-scaling": (ours.laws,),
        "study-ablations": (ours.ablations, ours.laws),
        "study-interactions": (ours.together, ours.laws),
        "study-allocation": (ours.allocation,),
        "study-progress": (ours.laws,),
        "study-sensitivity": (ours.laws,),
    }
    return {name: textwrap.fill(f"{THEIRS} {told[name]} {_right(parts[name])}", LINE) for name in parts}


def _right(parts: Sequence[Part[Any]]) -> str:
    runs = {part.runs.path: part.runs.told for part in parts if part.runs is not None}
    return f"Right: {listed(list(runs.values()))}. {SCALES}" if runs else "Right: no runs."


def _theirs() -> dict[str, str]:
    ranges = {arch: f"{low:.3g} to {high:.3g}" for arch, (low, high) in scaling_laws.FLOPS_RANGE.items()}
    fitted = ", ".join(f"{arch} {told}" for arch, told in ranges.items())
    predicted, measured = changes.PREDICTED.value, changes.MEASURED.value
    return {
        "study-scaling": f"Points: {scaling_laws.POINTS_FROM}. Lines: as printed in the scaling figure, E = 1.9 held fixed, "
        f"no interval, solid over the FLOPs they were fitted to ({fitted}).",
        "study-ablations": "Bars from the ablation chart: width 64, one seed, loss 5.277, no interval; its readings move in "
        "steps of 4.3 %. Hatched: constants typed into the authors' code, or read from their curves. Ours: single changes from "
        "repeats at one budget, read on the law of modern; classes, and what has no repeats, by laws of both at the largest "
        "compute in range.",
        "study-interactions": f"{predicted} and {measured} from the text, {measured} from lines of other runs and budgets; the "
        "LSTM's prediction from the authors' code; no interval. Ours: product and joint gain from the same runs; none is "
        "predicted for the LSTM, whose two parts come from two sweeps.",
        "study-allocation": "Curve from the surface of arXiv 2203.15556 (approach 3) and the policy N = k C^0.73 of arXiv "
        "2001.08361; points: printed by the decomposition. Ours: surface fitted to our runs; a policy of the same exponent "
        "that is optimal at the centre of our compute, because the published one lies far outside our sizes.",
        "study-progress": "Totals printed by the decomposition, which multiplies a line pair far outside its data by gains "
        "that do not depend on scale; 22,000 from arXiv 2403.05812. Ours: the same arithmetic with our laws of lstm and retro "
        "in place of the study's, all else as published.",
        "study-sensitivity": "Points: printed by the authors' sensitivity script, which turns the LSTM line about C = 1; the "
        "other line is turned about the middle of its data instead. Ours: the same with our laws; the gain is that of the "
        "largest compute in range of both, not of 2023.",
    }
