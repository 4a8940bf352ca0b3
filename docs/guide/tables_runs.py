"""Tables of the guide about runs, laws and the irreducible loss."""

from __future__ import annotations

import numpy as np
from example import (
    DESIGN,
    FRONTIER_2023,
    SEED,
    TRUTH,
    example,
    held,
    rows_as_runs,
    true_gain,
    with_unfinished,
    yes,
)
from pages import table

from algoprog.report.growth import growth
from algoprog.report.numbers import digits, flops, with_interval
from algoprog.scaling import bootstrap, final_frontier, final_points, fit_frontiers, law_gain
from algoprog.scaling.binomial import binomial_interval
from algoprog.scaling.intervals.bootstrap import percentiles
from algoprog.scaling.simulate import simulate_sweep

STUDIES, STUDY_DRAWS = 20, 100  # simulated studies behind the table of units, and draws of each


def sweep() -> str:
    """What was run."""
    found = example().analysis
    rows = []
    for law in found.laws:
        own = found.points[found.points["arch"] == law.arch]
        spent = f"{flops(float(own['flops'].sum()))}"
        best = digits(float(own["loss"].min()), 4)
        low, high = (flops(end) for end in law.flops_range)
        rows.append([law.arch, f"{law.n_runs}", f"{low} to {high}", spent, f"{law.n_points}", best])
    total = flops(float(found.points["flops"].sum()))
    told = f"{len(found.points)} runs, {len(example().runs)} logged rows, {total} FLOPs in all."
    return f"{table(('', 'runs', 'FLOPs of a run', 'FLOPs in all', 'on the frontier', 'lowest loss'), rows)}\n\n{told}"


def unit() -> str:
    """Each of the simulated studies is analysed twice: runs as runs, and their logged rows as runs."""
    truth = TRUTH["modern"].alpha - TRUTH["lstm"].alpha
    kinds = (
        ("the last row of each run", 0.0, False),
        ("every row a run, learning rate constant", 0.0, True),
        ("every row a run, learning rate still to fall", with_unfinished(0.05).unfinished, True),
    )
    rows = []
    for label, unfinished, mistaken in kinds:
        found = [_gap_of_study(number, unfinished, mistaken) for number in range(STUDIES)]
        ends = np.array([interval for _, interval in found])
        covered = sum(held((low, high), truth) for low, high in ends)
        low, high = binomial_interval(covered, STUDIES)
        mean, width = float(np.mean([value for value, _ in found])), float(np.mean(ends[:, 1] - ends[:, 0]))
        share = f"{covered} of {STUDIES} ({100 * low:.0f} to {100 * high:.0f} %)"
        rows.append([label, f"{mean:.4f}", f"{width:.4f}", share])
    return table(
        ("taken for a run", f"mean gap (true {truth:.4f})", "mean width of the interval", "held the truth"), rows
    )


def _gap_of_study(number: int, unfinished: float, mistaken: bool) -> tuple[float, tuple[float, float]]:
    """The exponent gap of one simulated study of two architectures, and its 95 % interval."""
    pair = {name: TRUTH[name] for name in ("lstm", "modern")}
    runs = simulate_sweep(pair, DESIGN, with_unfinished(unfinished), np.random.default_rng((SEED, number)))
    points = rows_as_runs(runs) if mistaken else final_points(runs)
    fit = fit_frontiers(final_frontier(points))
    boot = bootstrap(points, draws=STUDY_DRAWS, seed=SEED, fit=fit)
    ends = percentiles(boot.law("modern").alpha - boot.law("lstm").alpha)
    assert ends is not None
    return fit.laws["modern"].alpha - fit.laws["lstm"].alpha, ends


def laws() -> str:
    """The fitted laws against the true ones."""
    found = example().analysis
    rows = []
    for law in found.laws:
        true = TRUTH[law.arch].alpha
        estimate = f"{law.law.alpha:.4f} ({law.alpha[0]:.4f} to {law.alpha[1]:.4f})" if law.alpha else "no interval"
        rows.append([f"exponent α of {law.arch}", f"{true:.3f}", estimate, yes(held(law.alpha, true))])
    for old, new in (("lstm", "modern"), ("retro", "modern")):
        grown, true = growth(found, old, new), TRUTH[new].alpha - TRUTH[old].alpha
        assert grown.gap_interval is not None
        ends = "{:.4f} to {:.4f}".format(*grown.gap_interval)
        rows.append(
            [f"gap, {new} less {old}", f"{true:.3f}", f"{grown.gap:.4f} ({ends})", yes(held(grown.gap_interval, true))]
        )
    shared, true = found.laws[0].E, TRUTH["lstm"].E
    rows.append(["irreducible loss E", f"{true:.1f}", with_interval(found.fit.E, shared), yes(held(shared, true))])
    over_e = next(one for one in found.sources if one.name == "exponent of modern").profile_e
    assert over_e is not None
    told = (
        f"Within the 95 % profile set of E these runs allow an α of modern from {over_e.low:.3f} ({over_e.low_at}) to "
        f"{over_e.high:.3f} ({over_e.high_at})."
    )
    return f"{table(('quantity', 'truth', 'estimate (95 %)', 'held'), rows)}\n\n{told}"


def strip() -> str:
    """Exponents and gains with E held at fixed values."""
    found = example().analysis
    columns = [("as fitted", found.fit.E, found.fit)]
    columns += [
        ("fixed", choice.fit.E, choice.fit) for choice in found.choices if choice.kind == "fixed E" and choice.fit
    ]
    rows, ends = [], []
    for label, e, fit in columns:
        inside, far = (law_gain(fit.laws["lstm"], fit.laws["modern"], c) for c in (3e16, FRONTIER_2023))
        alphas = [f"{fit.laws[name].alpha:.4f}" for name in ("lstm", "modern")]
        rows.append([f"{digits(e)} ({label})", *alphas, digits(inside), digits(far)])
        ends.append((inside, far))
    true = [f"{TRUTH[name].alpha:.4f}" for name in ("lstm", "modern")]
    far = true_gain("lstm", "modern", FRONTIER_2023)
    rows.append(["**1.9 (the truth)**", *true, digits(true_gain("lstm", "modern", 3e16)), digits(far)])
    header = ("E", "α of lstm", "α of modern", "gain at 3e16 FLOPs", f"gain at {flops(FRONTIER_2023, 3)} FLOPs")
    told = "Highest over lowest along the strip: {} for the gain at 3e16 FLOPs, {} for the gain at {} FLOPs.".format(
        *(digits(max(gains) / min(gains), 2) for gains in zip(*ends, strict=True)), flops(FRONTIER_2023, 3)
    )
    return f"{table(header, rows)}\n\n{told}"
