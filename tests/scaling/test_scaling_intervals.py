"""The run-level bootstrap: deterministic, honest about failures, and equal to the full fit in every draw."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoprog.scaling import InputError, Status, bootstrap, final_frontier, fit_frontiers
from algoprog.scaling.intervals import _cluster, _draw_sigma, _parametric, percentiles


def equal(one: np.ndarray, two: np.ndarray) -> bool:
    return np.array_equal(one, two, equal_nan=True)


def test_same_seed_same_draws_other_seed_other_draws(study) -> None:
    frame = study()
    one, two, other = (bootstrap(frame, draws=30, seed=seed) for seed in (4, 4, 5))
    assert equal(one.alpha, two.alpha) and equal(one.E, two.E) and one.status == two.status
    assert not equal(one.alpha, other.alpha)


def test_order_of_rows_and_names_of_runs_change_nothing(study) -> None:
    frame = study()
    shuffled = frame.sample(frac=1, random_state=3).assign(run=lambda f: [f"x{i}" for i in range(len(f))])
    assert equal(bootstrap(frame, draws=20).alpha, bootstrap(shuffled, draws=20).alpha)


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("irreducible", ["shared", 1.7])
def test_every_draw_is_the_full_fit_of_its_own_frontier(study, repeats: int, irreducible: str | float) -> None:
    """The batch of draws must reach the optimum that fit_frontiers reaches on the resampled points."""
    frame = study(budgets=9 if repeats == 1 else 4, repeats=repeats, sigma=0.005)
    fit = fit_frontiers(final_frontier(frame), irreducible)
    boot = bootstrap(frame, irreducible, draws=12, seed=2, fit=fit, method="cluster")
    rng = np.random.default_rng(2)
    sigma = _draw_sigma(fit, 12, rng)
    samples = {}
    for arch in fit.archs:
        rows = frame[frame["arch"] == arch].sort_values(["flops", "loss"])
        samples[arch], how = _cluster(rows, fit, arch, 0.05, sigma, rng, 12)
        assert how.startswith("cluster")
    for draw in np.flatnonzero(~np.isnan(boot.E)):
        parts = []
        for arch, sample in samples.items():
            on = sample.weight[draw] > 0
            values = {"flops": sample.log_flops, "loss": np.broadcast_to(sample.log_loss, sample.weight.shape)}
            parts.append(
                pd.DataFrame({name: np.exp(value[draw][on]) for name, value in values.items()}).assign(
                    arch=arch, weight=sample.weight[draw][on]
                )
            )
        kind = {"loss": "squared"} if math.isinf(fit.knee) else {"knee": fit.knee}
        alone = fit_frontiers(pd.concat(parts), irreducible, **kind)
        assert alone.E == pytest.approx(boot.E[draw], rel=1e-6)
        for k, arch in enumerate(boot.archs):
            assert alone.laws[arch].alpha == pytest.approx(boot.alpha[draw, k], rel=1e-6)
            a_at_c0 = alone.laws[arch].loss(fit.laws[arch].C0) - alone.E
            assert np.log(a_at_c0) == pytest.approx(boot.log_a[draw, k], rel=1e-6)


def test_cluster_draws_resample_runs_with_multiplicity(study) -> None:
    frame = study(budgets=10, archs=("lstm",))
    fit = fit_frontiers(final_frontier(frame))
    sample, _ = _cluster(frame, fit, "lstm", 0.05, np.ones(400), np.random.default_rng(0), 400)
    # No run beats a cheaper one here, so every drawn run is on the frontier and the weights are the counts.
    assert set(sample.weight.sum(axis=1)) == {10.0}
    assert sample.weight.mean() == pytest.approx(1.0, abs=1e-12)
    assert np.mean(sample.weight == 0) == pytest.approx((1 - 1 / 10) ** 10, abs=0.03)


def test_budgets_with_three_runs_are_resampled_within_themselves(study) -> None:
    frame = study(budgets=4, repeats=3, archs=("lstm",)).sort_values(["flops", "loss"])
    fit = fit_frontiers(final_frontier(frame))
    sample, how = _cluster(frame, fit, "lstm", 0.05, np.ones(500), np.random.default_rng(0), 500)
    assert how == "cluster bootstrap of runs within budgets"
    assert sample.weight.shape == (500, 4) and np.all(sample.weight == 1.0)
    best = np.log(frame.groupby("flops")["loss"].min().to_numpy())
    # The best of three is drawn with probability 1 - (2/3)^3.
    assert np.mean(np.isclose(sample.log_loss, best)) == pytest.approx(19 / 27, abs=0.04)


def test_few_runs_are_parametric_and_say_so(study) -> None:
    frame = study(budgets=5)
    boot = bootstrap(frame, draws=50)
    assert all(how.startswith("parametric bootstrap (5 runs") for how in boot.method.values())
    mixed = pd.concat([frame[frame["arch"] != "lstm"], study(budgets=9, archs=("lstm",))])
    assert bootstrap(mixed, draws=5).method["lstm"] == "cluster bootstrap of runs"
    assert set(bootstrap(frame, draws=5, method="cluster").method.values()) == {"cluster bootstrap of runs"}


def test_budgets_that_mix_widths_are_not_resampled_unasked(study) -> None:
    frame = study(budgets=4, repeats=3, archs=("lstm",))
    unknown = bootstrap(frame, draws=3).method["lstm"]
    repeats = bootstrap(frame.assign(width=frame.groupby("flops").ngroup()), draws=3).method["lstm"]
    mixed = bootstrap(frame.assign(width=np.arange(12) % 3, depth=2), draws=3).method["lstm"]
    assert unknown.startswith("parametric") and mixed.startswith("parametric")
    assert repeats == "cluster bootstrap of runs within budgets"


def test_parametric_noise_has_the_fitted_scale_and_keeps_clear_losers_losing(study) -> None:
    frame = study(budgets=6, archs=("lstm",), sigma=0.002)
    losers = frame.assign(loss=frame["loss"] * 1.1, flops=frame["flops"] * 0.99)
    both = pd.concat([frame, losers]).sort_values(["flops", "loss"])
    fit = fit_frontiers(final_frontier(both))
    draws = 2000
    sample, _ = _parametric(both, fit, "lstm", 0.05, np.full(draws, 0.002), np.random.default_rng(0), draws)
    z = sample.log_loss - np.log(fit.laws["lstm"].loss(np.exp(sample.log_flops)))
    assert z[sample.weight > 0].std() == pytest.approx(0.002, rel=0.05)
    assert np.allclose(z.mean(axis=0), 0, atol=2e-4)  # had losers competed as equals, minima would be low by .56 sigma


def test_parametric_scale_has_the_spread_of_a_variance_from_few_residuals(study) -> None:
    fit = fit_frontiers(final_frontier(study(budgets=4)))
    assert fit.degrees_of_freedom == 5
    sigma = _draw_sigma(fit, 20000, np.random.default_rng(0))
    assert np.mean(1 / sigma**2) * fit.sigma**2 == pytest.approx(1.0, rel=0.02)
    assert np.var(fit.sigma**2 / sigma**2) == pytest.approx(2 / 5, rel=0.06)


def test_degenerate_draws_are_counted_and_not_fitted(study) -> None:
    # Eight runs, but at three budgets: many draws keep a pair only.
    flops = np.array([1e15, 1e16, 1e17])
    small = pd.DataFrame(
        {"arch": "lstm", "flops": np.repeat(flops, [2, 2, 2]), "loss": [5.0, 5.01, 4.5, 4.51, 4.1, 4.11]}
    )
    many = study(budgets=8, archs=("modern",))
    boot = bootstrap(pd.concat([small, many]), draws=200, method="cluster")
    assert 0 < boot.failed < 200
    assert boot.status.count(Status.TOO_FEW) == boot.failed == int(np.isnan(boot.alpha[:, 0]).sum())
    assert boot.not_converged >= boot.failed and boot.unstable
    assert sum(boot.status_counts.values()) == 200
    assert boot.law("lstm").E.size == 200 - boot.failed
    assert "unstable" in boot.describe("lstm")


def test_no_residual_freedom_means_no_parametric_interval(study) -> None:
    boot = bootstrap(study(budgets=3, archs=("lstm",)), draws=20)
    assert boot.failed == 20 and boot.unstable
    assert percentiles(boot.law("lstm").alpha) is None


def test_no_law_means_no_draw(study) -> None:
    boot = bootstrap(study(budgets=1, archs=("lstm",)), draws=7)
    assert boot.archs == () and boot.failed == 7 and boot.unstable


def test_noise_free_runs_have_intervals_of_no_width(study) -> None:
    boot = bootstrap(study(sigma=0.0), draws=40)
    ends = percentiles(boot.law("modern").alpha)
    assert ends is not None and ends == pytest.approx((0.09, 0.09), rel=1e-6)


def test_fixed_e_stays_fixed_in_every_draw(study) -> None:
    boot = bootstrap(study(), 1.7, draws=20)
    assert set(boot.E) == {1.7}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.floats(0.5, 0.99))
def test_percentiles_bracket_at_least_the_level(values: list[float], level: float) -> None:
    array = np.array(values)
    low, high = percentiles(array, level)  # type: ignore[misc]
    assert low in array and high in array
    assert np.mean((array >= low) & (array <= high)) >= level - 1 / array.size


def test_percentiles_allow_infinity_and_let_nan_widen_both_ends() -> None:
    values = np.concatenate([np.arange(90.0), np.full(10, np.inf)])
    assert percentiles(values) == (2.0, math.inf)
    assert percentiles(np.concatenate([np.arange(90.0), np.full(10, np.nan)])) == (-math.inf, math.inf)
    assert percentiles(np.array([])) is None


@pytest.mark.parametrize("arguments", [{"draws": 0}, {"level": 1.0}, {"method": "points"}, {"irreducible": 50.0}])
def test_bad_arguments_are_refused(study, arguments: dict[str, object]) -> None:
    with pytest.raises(InputError):
        bootstrap(study(), **arguments)  # type: ignore[arg-type]


def coverage(study, studies: int, **design: float) -> float:
    """How often the 95 % interval of the gap between two exponents holds the truth."""
    hits = 0
    for seed in range(studies):
        boot = bootstrap(study(seed=seed, archs=("lstm", "modern"), **design), draws=200, seed=seed)
        ends = percentiles(boot.law("modern").alpha - boot.law("lstm").alpha)
        assert ends is not None
        hits += ends[0] <= 0.09 - 0.065 <= ends[1]
    return hits / studies


@pytest.mark.slow
@pytest.mark.parametrize("design", [{"budgets": 12}, {"budgets": 5}, {"budgets": 6, "repeats": 3, "excess": 0.01}])
def test_intervals_cover_the_truth(study, design: dict[str, float]) -> None:
    """Cluster, parametric, and parametric with budgets of three widths.

    120 studies: a true 95 % gives .89-1 within three standard errors.
    """
    assert coverage(study, 120, decades=2.0, **design) >= 0.89
