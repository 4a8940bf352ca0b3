"""Simulated sweeps have the truth, the design and the noise that they were asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from algoprog.scaling import InputError, PowerLaw, final_frontier, final_points, fit_frontiers, load_runs
from algoprog.scaling.frontier import budget_groups
from algoprog.scaling.intervals.correlation import match_keys, shared_noise, with_matches
from algoprog.scaling.simulate import FLOPS_PER_PARAM_TOKEN, Design, Noise, best_size, simulate_sweep

TRUE = {"lstm": PowerLaw(1.9, 2.6, 0.065, 1e16), "modern": PowerLaw(1.9, 2.0, 0.09, 1e16)}
SILENT = Noise(s0=0.0, curvature=0.0, unfinished=0.0)


DEFAULT = Design()


def sweep(design: Design = DEFAULT, noise: Noise = SILENT, seed: int = 0):
    return simulate_sweep(TRUE, design, noise, np.random.default_rng(seed))


def test_noise_free_runs_lie_on_their_laws_and_give_them_back() -> None:
    table = sweep(Design(budgets=8, decades=3.0))
    for arch, law in TRUE.items():
        rows = table[table["arch"] == arch]
        assert np.allclose(rows["loss"], law.loss(rows["flops"].to_numpy()), rtol=1e-12)
    fit = fit_frontiers(final_frontier(table))
    assert pytest.approx(1.9, rel=1e-6) == fit.E
    assert fit.laws["modern"].alpha == pytest.approx(0.09, rel=1e-6)


def test_design_is_the_one_asked_for(tmp_path: Path) -> None:
    design = Design(budgets=6, decades=2.5, lowest=1e14, widths=3, seeds=2, curve_points=4)
    table = sweep(design, Noise())
    assert len(table) == 2 * 6 * 3 * 2 * 4 and table["run"].nunique() == 72
    assert np.allclose(table["flops"], FLOPS_PER_PARAM_TOKEN * table["params"] * table["tokens"])
    last = final_points(table)
    assert len(last) == 72 and set(last["step"]) == {4.0}
    one = np.sort(last.loc[last["arch"] == "lstm", "flops"].to_numpy())
    assert budget_groups(one)[-1] == 5
    assert (one[0], one[-1]) == pytest.approx((1e14, 10**16.5), rel=1e-3)
    assert (last["width"] % 1 == 0).all() and last.groupby(["arch", "seed"])["width"].nunique().min() >= 3
    table.to_csv(tmp_path / "runs.csv", index=False)
    assert load_runs(tmp_path / "runs.csv").equals(table[load_runs(tmp_path / "runs.csv").columns])


def test_excess_is_quadratic_in_the_size() -> None:
    table = sweep(Design(budgets=5, widths=3), Noise(s0=0.0, curvature=0.1))
    rows = table[table["arch"] == "modern"]
    flops = rows["flops"].to_numpy()
    relative = (rows["loss"].to_numpy() - 1.9) / (TRUE["modern"].loss(flops) - 1.9) - 1
    assert np.allclose(relative, 0.05 * np.log(rows["params"].to_numpy() / best_size(flops)) ** 2, rtol=1e-9)
    nearest = np.abs(np.log(rows["params"].to_numpy() / best_size(flops))).reshape(5, 3).min(axis=1)
    assert nearest.max() <= np.log(2) / 2 + 0.01


def test_noise_has_the_size_and_the_correlations_asked_for() -> None:
    design = Design(budgets=400, decades=2.0, widths=1, curve_points=3)
    noise = Noise(s0=0.006, q=3.3, within=0.7, paired=0.4, curvature=0.0, unfinished=0.0)
    table = sweep(design, noise, seed=1)
    z = {}
    for arch, law in TRUE.items():
        rows = table[table["arch"] == arch]
        true = law.loss(rows["flops"].to_numpy())
        z[arch] = ((rows["loss"].to_numpy() - true) / (0.006 * (true / 3.0) ** 3.3)).reshape(-1, 3)
    assert z["lstm"].std() == pytest.approx(1.0, abs=0.08)
    assert np.corrcoef(z["lstm"][:, 0], z["lstm"][:, 2])[0, 1] == pytest.approx(0.7, abs=0.08)
    # Only the shared part of a run's noise can be shared between architectures.
    assert np.corrcoef(z["lstm"][:, 2], z["modern"][:, 2])[0, 1] == pytest.approx(0.4 * 0.7, abs=0.12)
    gap = sweep(design, Noise(s0=0.0, tuning=0.002, curvature=0.0, unfinished=0.0))
    above = np.log(gap["loss"].to_numpy()) - np.log(
        np.concatenate([TRUE[arch].loss(rows["flops"].to_numpy()) for arch, rows in gap.groupby("arch", sort=False)])
    )
    assert above.min() > -1e-12 and above.mean() == pytest.approx(0.002, rel=0.15)


def test_correlation_of_matched_residuals_is_estimated_without_bias() -> None:
    """At 12 budgets a plain correlation of residuals would be low; the moment estimate averages to the truth."""
    found = {}
    for paired in (0.0, 0.6):
        rho = []
        for seed in range(24):
            noise = Noise(s0=0.006, within=1.0, paired=paired, curvature=0.0)
            table = with_matches(sweep(Design(budgets=12, decades=3.0, widths=1), noise, seed), 0.05)
            frontier = final_frontier(table)
            rho.append(shared_noise(frontier, fit_frontiers(frontier, loss="squared")).rho)
        found[paired] = float(np.mean(rho))
    assert found[0.6] == pytest.approx(0.6, abs=0.15)
    assert found[0.0] < 0.25  # never below zero, so above it on average


def test_matches_need_equal_budget_size_and_seed() -> None:
    table = sweep(Design(budgets=4, widths=2, seeds=2), Noise())
    keys = match_keys(table, 0.05)
    assert set(np.bincount(keys)) == {2}
    for _, rows in table.assign(key=keys).groupby("key"):
        assert set(rows["arch"]) == {"lstm", "modern"} and rows["seed"].nunique() == 1
        assert rows["flops"].max() / rows["flops"].min() < 1.05
    assert (match_keys(table.drop(columns="seed"), 0.05) == -1).all()
    assert (match_keys(table.assign(seed=0.0), 0.05) == -1).all()  # repeats that nothing tells apart
    shuffled = table.sample(frac=1, random_state=1)
    assert np.array_equal(match_keys(shuffled, 0.05), keys[shuffled.index])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Design(budgets=0), "bad budgets; got 0; expected at least 1"),
        (lambda: Design(size_step=1.0), "bad size_step"),
        (lambda: Design(decades=float("nan")), "bad decades"),
        (lambda: Noise(s0=-1.0), "bad s0"),
        (lambda: Noise(paired=1.5), "bad paired; got 1.5; expected a correlation from 0 to 1"),
        (lambda: simulate_sweep({}, Design(), Noise(), np.random.default_rng(0)), "no architecture to simulate"),
    ],
)
def test_bad_arguments_are_refused(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
