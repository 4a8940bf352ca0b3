"""Do the 95 % intervals hold the truth in 95 % of sweeps? Simulates sweeps of known laws and writes docs/coverage.md.

    python benchmarks/coverage.py [--sweeps 400] [--draws 200] [--seed 1] [--out docs/coverage.md]

About fifteen minutes on one core. The file is rewritten after every design, so an interrupted run leaves what it had.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from algoprog.scaling import PowerLaw
from algoprog.scaling.coverage import Coverage, in_range_centre, measure_coverage
from algoprog.scaling.simulate import Design, Noise

TRUTH = {
    "lstm": PowerLaw(1.9, 2.6, 0.065, 1e16),
    "retro": PowerLaw(1.9, 2.2, 0.085, 1e16),
    "modern": PowerLaw(1.9, 2.0, 0.09, 1e16),
}
OLD, NEW = "lstm", "modern"

REAL = Noise(s0=0.006, q=3.3, paired=0.3, tuning=0.0005, evaluation=0.0005)
CASES = (
    ("2 decades, 7 budgets of 3 widths", Design(budgets=7, decades=2.0), REAL, 1.0, "auto"),
    ("3 decades, 9 budgets of 3 widths", Design(budgets=9, decades=3.0), REAL, 1.0, "auto"),
    ("4 decades, 12 budgets of 3 widths", Design(budgets=12, decades=4.0), REAL, 1.0, "auto"),
    (
        "2 decades, 8 budgets of 5 widths a factor 1.4 apart (near-ties), sd .004 in ln L",
        Design(budgets=8, widths=5, size_step=1.4),
        Noise(s0=0.012),
        0.4,
        "auto",
    ),
    ("2 decades, 10 budgets of one run", Design(budgets=10, widths=1, size_step=1.3), Noise(s0=0.006), 0.4, "auto"),
    (
        "the same, run effects of architectures correlated .6",
        Design(budgets=10, widths=1, size_step=1.3),
        Noise(s0=0.006, paired=0.6),
        0.4,
        "auto",
    ),
    (
        "2 decades, 8 budgets of 3 repeats",
        Design(budgets=8, widths=1, seeds=3, size_step=1.3),
        Noise(s0=0.009),
        0.4,
        "auto",
    ),
    (
        "the same, runs resampled within budgets (not the default)",
        Design(budgets=8, widths=1, seeds=3, size_step=1.3),
        Noise(s0=0.009),
        0.4,
        "cluster",
    ),
)

HEAD = """# Simulated coverage of the intervals

How often a 95 % interval holds the truth, over simulated sweeps of three architectures with known laws
(`algoprog/scaling/simulate.py`), each analysed as a real one: frontier of final points, one shared irreducible loss E.
Made by `{command}`.

* Truth: E = 1.9 nats; reducible loss 2.6, 2.2, 2.0 nats at 1e16 FLOPs and exponents .065, .085, .090 for lstm, retro, modern.
  Budgets start at 1e15 FLOPs.
* First three designs: seed noise sd(L) = .006 (L/3)^3.3 nats, correlation .3 between runs of different architectures
  with equal budget, size and seed, tuning gap of mean .0005 and evaluation noise of sd .0005 in ln L, curvature of the
  loss over ln N .095 r, sizes a factor 2 apart on a grid that no budget meets exactly. The others: sd(ln L) constant,
  what differs is named.
* Quantities: exponent of modern; gap to the exponent of lstm; ln gain of modern over lstm at the centre of the compute in
  range; ln loss of modern there. The truth of that loss is what such sweeps find on average: the lowest of several runs lies
  below the law of a run, by the bias in the last column.
* Methods: percentiles of the bootstrap ({draws} draws), BCa of the same draws, profile likelihood. In brackets the 95 %
  Wilson interval of the coverage. Width: median. Bias: median error of the estimate, and its share of the standard
  deviation.

| design | quantity | sweeps | bootstrap | BCa | profile | width: bootstrap, BCa, profile | bias (of sd) |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def main() -> None:
    """Measure every case and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sweeps", type=int, default=400, help="of the three main designs; fewer of the others")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/coverage.md"))
    given = parser.parse_args()
    command = f"python benchmarks/coverage.py --sweeps {given.sweeps} --draws {given.draws} --seed {given.seed}"
    rows: list[str] = []
    for name, design, noise, part, method in CASES:
        start = time.monotonic()
        found = measure_coverage(
            TRUTH, OLD, NEW, design, noise,
            sweeps=max(1, round(part * given.sweeps)), draws=given.draws, seed=given.seed, method=method,
        )  # fmt: skip
        rows += _rows(name, found)
        given.out.write_text(HEAD.format(command=command, draws=given.draws) + "\n".join(rows) + "\n", encoding="utf-8")
        centre = in_range_centre(TRUTH[OLD], TRUTH[NEW], design)
        print(f"{name}: gain at {centre:.2g} FLOPs, {time.monotonic() - start:.0f} s", flush=True)
        print("\n".join(rows[-4:]), flush=True)


def _rows(name: str, found: tuple[Coverage, ...]) -> list[str]:
    rows = []
    for first in range(0, len(found), 3):
        three = found[first : first + 3]
        one = three[0]
        cells = [f"{c.share:.3f} ({c.interval[0]:.3f}-{c.interval[1]:.3f})" for c in three]
        widths = ", ".join(f"{c.width:.3g}" for c in three)
        bias = f"{one.bias:+.2g} ({one.bias / one.spread:+.2f})"
        label = name if first == 0 else ""
        rows.append(f"| {label} | {one.quantity} | {one.sweeps} | {' | '.join(cells)} | {widths} | {bias} |")
    return rows


if __name__ == "__main__":
    main()
