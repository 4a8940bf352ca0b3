"""Optimal learning rates with intervals, and what a coarse search leaves on the table."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from algoprog.scaling.errors import InputError
from algoprog.scaling.study import analyse
from algoprog.scaling.tuning.frontier import at_optimal_rates
from algoprog.scaling.tuning.optimum import Optimum, find_optima


def search(
    best: float, sd: float = 0.0, seed: int = 0, repeats: int = 1, steps: int = 2, step: float = 0.25
) -> pd.DataFrame:
    """A search about 10^-2 whose optimum lies ``best`` decades above it; curvature 0.8 nats per decade^2."""
    rng = np.random.default_rng(seed)
    x = np.repeat(step * np.arange(-steps, steps + 1), repeats)
    loss = 4 + 0.8 * (x - best) ** 2 + sd * rng.standard_normal(x.size)
    seeds = np.tile(np.arange(repeats), 2 * steps + 1)
    return pd.DataFrame(
        {"arch": "modern", "width": 32.0, "flops": 1e12, "loss": loss, "lr": 10 ** (x - 2), "seed": seeds}
    )


def only(points: pd.DataFrame) -> Optimum:
    (found,) = find_optima(points)
    return found


def test_a_parabola_without_noise_is_found_exactly() -> None:
    found = only(search(0.1))
    assert found.rate == pytest.approx(10**-1.9) and found.curvature == pytest.approx(0.8)
    assert found.used == pytest.approx(0.01) and found.left == pytest.approx(0.8 * 0.1**2)


def test_intervals_cover_the_optimum_and_what_is_left() -> None:
    optimum = left = 0
    for seed in range(200):
        found = only(search(0.1, sd=0.01, seed=seed, repeats=3))
        assert found.interval is not None and found.left_interval is not None
        optimum += found.interval[0] <= 10**-1.9 <= found.interval[1]
        used = math.log10(found.used) + 2
        left += found.left_interval[0] <= 0.8 * (used - 0.1) ** 2 <= found.left_interval[1]
    assert 180 <= optimum <= 198 and 180 <= left <= 200


def test_states() -> None:
    assert only(search(0.9)).state == "edge"
    assert only(search(0.1)).state == "found"  # residuals of four rates or more tell the noise
    assert only(search(0.1, steps=1)).state == "no noise" and only(search(0.1, steps=1)).interval is None
    flat = search(0.0, sd=3.0, repeats=2, seed=3)
    assert only(flat).state in ("flat", "edge") and only(flat).interval is None
    diverged = search(0.1)
    diverged.loc[diverged["lr"] > 0.011, "loss"] = math.nan
    assert only(diverged).state == "edge" and only(diverged).losses[-1] == math.inf


def test_budgets_and_architectures_are_searches_of_their_own() -> None:
    whole = pd.concat(
        [
            search(0.1),
            search(0.1).assign(flops=2e12),
            search(0.1).assign(arch="lstm"),
            search(0.1).iloc[:2].assign(width=64),
        ]
    )
    assert [(one.arch, one.width, one.flops) for one in find_optima(whole)] == [
        ("lstm", 32, 1e12), ("modern", 32, 1e12), ("modern", 32, 2e12),
    ]  # fmt: skip


def test_a_noisy_recipe_does_not_hide_the_optimum_of_a_quiet_one() -> None:
    """Noise is an architecture's own where five repeats of it are known, and that of all where they are not."""
    quiet = search(0.1, sd=0.003, seed=1, repeats=2)
    noisy = search(0.1, sd=3.0, seed=2, repeats=2).assign(arch="retro")
    assert [one.state for one in find_optima(pd.concat([quiet, noisy]))][0] == only(quiet).state == "found"
    assert find_optima(pd.concat([quiet, noisy]))[0].interval == pytest.approx(only(quiet).interval, rel=0.2)
    once = quiet.drop_duplicates("lr")  # residuals of one search leave two degrees of freedom
    assert find_optima(pd.concat([once, noisy]))[0].state == "flat"


def test_the_frontier_at_optimal_rates_is_a_source_of_spread() -> None:
    """Rates 0.1 decades off at small compute and right at large compute make the law too steep; undoing that is told."""
    runs = [
        search(0.1 if i < 2 else 0.0).assign(
            arch=arch, flops=1e12 * 2.0**i, loss=lambda t, i=i, s=shift: t["loss"] + s - 0.1 * i
        )
        for i in range(4)
        for arch, shift in (("modern", 0.0), ("retro", 0.3))
    ]
    points = pd.concat(runs, ignore_index=True)
    found = analyse(points, draws=20)
    (tuned,) = [choice for choice in found.choices if choice.kind == "learning rate"]
    moved = at_optimal_rates(points, found.frontier, 0.05)
    assert moved is not None and tuned.fit is not None
    lower = found.frontier["loss"].to_numpy() - moved["loss"].to_numpy()
    assert sorted(lower.round(6)) == pytest.approx([0] * 4 + [0.008] * 4)
    assert tuned.fit.laws["modern"].alpha != found.fit.laws["modern"].alpha
    assert at_optimal_rates(points.drop(columns="lr"), found.frontier, 0.05) is None


def test_bad_tables() -> None:
    with pytest.raises(InputError, match="missing column lr"):
        find_optima(search(0.1).drop(columns="lr"))
    with pytest.raises(InputError, match="bad lr"):
        find_optima(search(0.1).assign(lr=0.0))


def test_a_cliff_counts_as_diverged() -> None:
    """Beyond the edge of stability a run may end at the level of the unigram model: no parabola bends to it."""

    def search(*losses: float) -> Optimum:
        rates = [0.02 * 10 ** (0.25 * step) for step in range(len(losses))]
        rows = pd.DataFrame({"arch": "a", "width": 8, "flops": 1e10, "lr": rates, "loss": losses, "seed": 0})
        repeat = rows.assign(seed=1, loss=rows["loss"] + 0.004)
        (one,) = find_optima(pd.concat([rows, repeat], ignore_index=True))
        return one

    smooth, fell = search(4.50, 4.44, 4.42, 4.44, 4.50), search(4.50, 4.44, 4.42, 4.44, 5.90)
    assert fell.state == "found" and fell.rate == pytest.approx(smooth.rate, rel=0.02)
    assert fell.left is not None and fell.left < 0.001 and fell.losses[-1] == 5.90
    assert search(4.50, 4.44, 4.42, 5.90).state == "edge"


def test_runs_at_other_rates_of_a_search_touch_neither_law_nor_interval() -> None:
    """They measure the rate and not the recipe; taken for repeats they made intervals several times too wide."""
    rng = np.random.default_rng(0)
    tuned = pd.DataFrame([
        {"arch": "a", "width": 8.0, "flops": flops, "lr": 0.04, "seed": seed,
         "loss": 2.0 + 40 * flops**-0.15 + rng.normal(0, 0.005)}
        for flops in 10 ** np.linspace(10, 12, 6) for seed in range(3)
    ])  # fmt: skip
    tried = [tuned[tuned["seed"] == 0].assign(lr=lr, loss=lambda rows, worse=worse: rows["loss"] + worse)
             for lr, worse in ((0.01, 0.4), (0.02, 0.1), (0.08, -0.002), (0.16, 1.5))]  # fmt: skip
    alone, searched = analyse(tuned, draws=100), analyse(pd.concat([tuned, *tried], ignore_index=True), draws=100)
    assert searched.fit.laws == alone.fit.laws and searched.laws[0].alpha == alone.laws[0].alpha
    assert any("24 runs at rates that a search did not choose" in told for told in searched.warnings)
    assert not any("did not choose" in told for told in alone.warnings)
