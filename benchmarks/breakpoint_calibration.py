"""How often the test for a break cries wolf, and what it sees: simulated studies of known laws.

``python benchmarks/breakpoint_calibration.py`` prints the tables; ``--page docs/breakpoints.md`` writes them between the
markers of that page. Every study goes the way of ``algoprog breaks``: losses with normal noise of ln L, frontier, test.
Ten minutes of CPU time.
"""

from __future__ import annotations

import argparse
import math
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import fdtri

from algoprog.scaling.binomial import binomial_interval
from algoprog.scaling.breakpoints.breaks import break_test
from algoprog.scaling.breakpoints.chow import chow_f
from algoprog.scaling.breakpoints.two_piece import TwoPieceLaw
from algoprog.scaling.frontier import final_frontier
from algoprog.scaling.laws import PowerLaw
from algoprog.scaling.planning.information import detectable_break

LOWEST_FLOPS = 1e15
REDUCIBLE, ALPHA = 2.4, 0.08  # nats in the middle of the range; exponent before the break
DRAWS = 99  # simulated critical values per study; rejections at p <= .05 have the same rate for any number 20 k - 1


@dataclass(frozen=True)
class Design:
    """One kind of study: ``points`` equal steps over ``decades`` from 1e15 FLOPs, noise ``sigma`` of ln L, a law with
    irreducible loss ``E`` whose exponent changes by ``change`` at the part ``at`` of the range."""

    points: int
    decades: float
    E: float = 1.9
    sigma: float = 0.003
    change: float = 0.0
    at: float = 0.5

    @property
    def flops(self) -> np.ndarray:
        """Compute of the runs, (points,)."""
        return np.geomspace(LOWEST_FLOPS, LOWEST_FLOPS * 10**self.decades, self.points)

    @property
    def law(self) -> TwoPieceLaw:
        """The true law."""
        middle, d = (LOWEST_FLOPS * 10 ** (self.decades * part) for part in (0.5, self.at))
        exponent = ALPHA if d >= middle else ALPHA + self.change
        return TwoPieceLaw(self.E, REDUCIBLE * (d / middle) ** -exponent, ALPHA, ALPHA + self.change, d)

    @property
    def detectable(self) -> float:
        """Change that 80 % of studies see at a known break there, E free."""
        middle = LOWEST_FLOPS * 10 ** (self.decades * 0.5)
        law = PowerLaw(self.E, REDUCIBLE, ALPHA, middle)
        return detectable_break(law, self.flops, self.law.d, self.sigma).free


@dataclass(frozen=True)
class Count:
    """Of ``studies``: how many sup-F rejections, claimed breaks, and rejections by the log-log Chow test."""

    studies: int
    rejected: int
    claimed: int
    chow: int


def run(design: Design, studies: int, seed: int) -> Count:
    """Simulate and test ``studies`` studies of ``design``."""
    rng = np.random.default_rng(seed)
    truth, flops = design.law.loss(design.flops), design.flops
    rejected = claimed = chow = 0
    for study in range(studies):
        loss = truth * np.exp(design.sigma * rng.standard_normal(flops.size))
        frontier = final_frontier(pd.DataFrame({"arch": "a", "flops": flops, "loss": loss}))
        found = break_test(frontier, DRAWS, seed + study).evidence
        rejected += found is not None and found.rejected
        claimed += found is not None and found.claimed
        x, y = np.log(frontier["flops"].to_numpy()), np.log(frontier["loss"].to_numpy())
        chow += bool(chow_f(x, y[None, :], [x.size // 2])[0, 0] > fdtri(2, x.size - 4, 0.95))
    return Count(studies, rejected, claimed, chow)


def share(hits: int, trials: int) -> str:
    """``4.8 % (3.1 to 7.1)``, with the exact 95 % interval."""
    low, high = binomial_interval(hits, trials)
    return f"{100 * hits / trials:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def false_alarms(studies: int, seed: int) -> Iterable[Sequence[object]]:
    """Rows of the first table: unbroken laws."""
    designs = [Design(points, decades) for decades in (2.0, 3.0, 4.0) for points in (16, 24)]
    designs += [Design(20, 3.0, sigma=0.001), Design(16, 2.0, E=0.0)]
    yield "E", "points", "decades", "σ", "studies", "sup-F, p ≤ .05", "break claimed", "log-log Chow test"
    for i, design in enumerate(designs):
        found = run(design, studies, seed + 10**6 * i)
        cells = (share(hits, studies) for hits in (found.rejected, found.claimed, found.chow))
        yield f"{design.E:g}", design.points, f"{design.decades:g}", f"{design.sigma:g}", studies, *cells


def power(studies: int, seed: int) -> Iterable[Sequence[object]]:
    """Rows of the second table: laws whose exponent rises or falls in the middle of the range."""
    changes = (-0.04, -0.02, 0.02, 0.04)
    yield "change of exponent", "decades", "known break, 80 %", "sup-F, p ≤ .05", "break claimed"
    for i, (decades, change) in enumerate((d, c) for d in (2.0, 3.0, 4.0) for c in changes):
        design = Design(24, decades, change=change)
        found = run(design, studies, seed + 10**6 * (100 + i))
        rates = share(found.rejected, studies), share(found.claimed, studies)
        yield f"{change:+g}".replace("-", "−"), f"{decades:g}", f"{design.detectable:.3f}", *rates


def markdown(rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; prints each row as it comes."""
    lines = []
    for row in rows:
        lines.append("| " + " | ".join(map(str, row)) + " |")
        print(lines[-1], flush=True)
        if len(lines) == 1:
            lines.append("| " + " | ".join("---" for _ in row) + " |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def replace(page: Path, name: str, table: str) -> None:
    """Put ``table`` between the markers ``name`` of ``page``; raises ValueError if they are not there."""
    text = page.read_text()
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
    new, found = re.subn(pattern, lambda match: f"{match[1]}{table}\n{match[2]}", text, flags=re.DOTALL)
    if found != 1:
        raise ValueError(f"{page}: expected one pair of markers {name!r}, found {found}")
    page.write_text(new)


def main() -> None:
    """Run both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=400, help="studies per row of the false-alarm table")
    parser.add_argument("--power-studies", type=int, default=150, help="studies per row of the power table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, help="page whose tables are replaced")
    options = parser.parse_args()
    start = time.perf_counter()
    tables = {
        "false alarms": markdown(false_alarms(options.studies, options.seed)),
        "power": markdown(power(options.power_studies, options.seed)),
    }
    print(f"{math.ceil((time.perf_counter() - start) / 60)} minutes")
    for name, table in tables.items():
        if options.page is not None:
            replace(options.page, name, table)


if __name__ == "__main__":
    main()
