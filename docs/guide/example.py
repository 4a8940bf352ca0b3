"""The guide's worked example: three architectures of known laws, a simulated sweep of them, and the analysis of that sweep.

The laws are those of Gundlach et al. (2025), arXiv 2511.21622. Because they are known here, every interval of the guide can
be held against the truth. Units: compute in training FLOPs, loss in nats per token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from algoprog.scaling import Analysis, Gain, PowerLaw, analyse, gain_at_flops, law_gain
from algoprog.scaling.breakpoints.two_piece import TwoPieceLaw
from algoprog.scaling.simulate import Design, Noise, simulate_sweep

TRUTH = {
    "lstm": PowerLaw(1.9, 36.3, 0.065),
    "retro": PowerLaw(1.9, 81.7, 0.091),
    "modern": PowerLaw(1.9, 88.0, 0.094),
}
PAIRS = (("lstm", "modern"), ("lstm", "retro"), ("retro", "modern"))
FRONTIER_2023 = 1e16 * 4.1**10  # FLOPs: the study's compute trend, 1e16 in 2013 and a factor of 4.1 a year

COMPUTES = (1e16, 3e16, 1e17, 1e18, FRONTIER_2023)  # of the new architecture, FLOPs: where the tables give gains

DESIGN = Design(budgets=13, decades=3.0, lowest=1e15, widths=2, seeds=1, curve_points=6)
NOISE = Noise()  # sd of .003 in ln L between runs of one design; two sizes a factor of 2 apart in each budget
SEED = 0
DRAWS = 1000

BREAK_AT, AFTER = 3e16, 0.054
"""Of ``stalls``, the trick that stops paying: modern up to ``BREAK_AT`` FLOPs, exponent ``AFTER`` beyond."""


@dataclass(frozen=True, eq=False)
class Example:
    """The sweep (one row per run and logged point), its analysis, and the runs of ``stalls``."""

    runs: pd.DataFrame
    stalls: pd.DataFrame
    analysis: Analysis


@cache
def example() -> Example:
    """The example; the same on every call and every machine, up to rounding."""
    rng = np.random.default_rng(SEED)
    runs = simulate_sweep(TRUTH, DESIGN, NOISE, rng)
    # The simulation asks a law for its E and its loss only, which a law of two pieces has as well.
    stalls = simulate_sweep({"stalls": cast(PowerLaw, stalling())}, DESIGN, NOISE, rng)
    return Example(runs, stalls, analyse(runs, draws=DRAWS, seed=SEED, pairs=PAIRS))


def stalling() -> TwoPieceLaw:
    """The law of ``stalls``."""
    modern = TRUTH["modern"]
    return TwoPieceLaw(modern.E, modern.loss(BREAK_AT) - modern.E, modern.alpha, AFTER, BREAK_AT)


def rows_as_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """The mistake: every logged row of a run passes for a run of its own."""
    return runs.drop(columns=["run", "step", "state"])


def write_tables(folder: Path) -> tuple[Path, ...]:
    """Write ``runs.csv``, ``rows-as-runs.csv`` and ``stalls.csv`` into ``folder``, as the commands of the guide read them."""
    found = example()
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"runs": found.runs, "rows-as-runs": rows_as_runs(found.runs), "stalls": found.stalls}
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return tuple(folder / f"{name}.csv" for name in tables)


def gain(old: str, new: str, flops: float) -> Gain:
    """The gain of ``new`` over ``old`` at ``flops`` of ``new``, fitted, with its interval."""
    found = example().analysis
    return gain_at_flops(found.fit, old, new, flops, boot=found.boot)


def true_gain(old: str, new: str, flops: float) -> float:
    """The same from the true laws."""
    return law_gain(TRUTH[old], TRUTH[new], flops)


def reducible(arch: str) -> float:
    """L - E of a true law in the middle of the range, nats per token."""
    middle = float(DESIGN.lowest * 10.0 ** (0.5 * DESIGN.decades))
    return TRUTH[arch].loss(middle) - TRUTH[arch].E


def with_unfinished(unfinished: float) -> Noise:
    """The example's noise, with points before the end of a run that much too high (in parts of L - E)."""
    return replace(NOISE, unfinished=unfinished)


def held(interval: tuple[float, float] | None, truth: float) -> bool:
    """Whether an interval covers the truth."""
    return interval is not None and interval[0] <= truth <= interval[1]


def sigma() -> float:
    """sd of ln L between runs of one design, with the example's ``q = 1`` at any loss."""
    assert math.isclose(NOISE.q, 1.0)
    return NOISE.s0 / 3.0


def yes(value: bool) -> str:
    """``yes`` or ``no``."""
    return "yes" if value else "no"
