"""The run-level bootstrap: deterministic, honest about failures, and equal to the full fit in every draw."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoprog.scaling import InputError, PowerLaw, Status, bootstrap, final_frontier, fit_frontiers
from algoprog.scaling.coverage import measure_coverage
from algoprog.scaling.frontier import budget_groups
from algoprog.scaling.intervals.bca import bca, leave_one_out
from algoprog.scaling.intervals.bootstrap import percentiles
from algoprog.scaling.intervals.resample import (
    choice_shift,
    cluster_sample,
    draw_counts,
    draw_sigma,
    parametric_sample,
    run_scale,
)
from algoprog.scaling.simulate import Design, Noise


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
    draw_sigma(fit, 12, rng)
    samples = {}
    for arch in fit.archs:
        rows = frame[frame["arch"] == arch].sort_values(["flops", "loss"])
        samples[arch] = cluster_sample(rows, 0.05, draw_counts(budget_groups(rows["flops"].to_numpy()), 12, rng))
        assert boot.method[arch].startswith("cluster")
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
    counts = draw_counts(budget_groups(frame["flops"].to_numpy()), 400, np.random.default_rng(0))
    sample = cluster_sample(frame, 0.05, counts)
    # No run beats a cheaper one here, so every drawn run is on the frontier and the weights are the counts.
    assert set(sample.weight.sum(axis=1)) == {10.0}
    assert sample.weight.mean() == pytest.approx(1.0, abs=1e-12)
    assert np.mean(sample.weight == 0) == pytest.approx((1 - 1 / 10) ** 10, abs=0.03)


def test_budgets_with_three_runs_are_resampled_within_themselves(study) -> None:
    frame = study(budgets=4, repeats=3, archs=("lstm",)).sort_values(["flops", "loss"])
    counts = draw_counts(budget_groups(frame["flops"].to_numpy()), 500, np.random.default_rng(0))
    sample = cluster_sample(frame, 0.05, counts)
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


def test_budgets_of_several_runs_are_resampled_only_on_request(study) -> None:
    frame = study(budgets=4, repeats=3, archs=("lstm",))
    assert bootstrap(frame, draws=3).method["lstm"].startswith("parametric")
    asked = bootstrap(frame, draws=3, method="cluster").method["lstm"]
    assert asked == "cluster bootstrap of runs within budgets"


def test_parametric_noise_has_the_fitted_scale_and_keeps_clear_losers_losing(study) -> None:
    frame = study(budgets=6, archs=("lstm",), sigma=0.002)
    losers = frame.assign(loss=frame["loss"] * 1.1, flops=frame["flops"] * 0.99)
    both = pd.concat([frame, losers]).sort_values(["flops", "loss"])
    fit = fit_frontiers(final_frontier(both))
    draws = 2000
    noise = np.random.default_rng(0).standard_normal((draws, len(both)))
    sample = parametric_sample(both, fit, "lstm", 0.05, np.full(draws, 0.002), noise)
    z = sample.log_loss - np.log(fit.laws["lstm"].loss(np.exp(sample.log_flops)))
    assert z[sample.weight > 0].std() == pytest.approx(0.002, rel=0.05)
    assert np.allclose(z.mean(axis=0), 0, atol=2e-4)  # had losers competed as equals, minima would be low by .56 sigma


def test_parametric_scale_has_the_spread_of_a_variance_from_few_residuals(study) -> None:
    fit = fit_frontiers(final_frontier(study(budgets=4)))
    assert fit.degrees_of_freedom == 5
    sigma = draw_sigma(fit, 20000, np.random.default_rng(0))
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


@pytest.mark.parametrize(("runs", "variance"), [(2, 0.6817), (3, 0.5595)])
def test_scale_of_a_run_undoes_the_shrinkage_of_a_minimum(runs: int, variance: float) -> None:
    """Variance of the minimum of k standard normals: 1 - 1/pi for k = 2, .5595 for k = 3 (tables of order statistics)."""
    groups = np.repeat(np.arange(40), runs)
    zero = np.zeros(groups.size)
    falling = -0.1 * groups  # budgets far apart, so that none is dropped
    assert run_scale(falling, zero, groups, 0.002) == pytest.approx(variance**-0.5, rel=0.02)
    # Losers that are clear do not compete.
    clear = np.where(np.arange(groups.size) % runs > 0, 0.1, 0.0)
    assert run_scale(falling, clear, groups, 0.002) == pytest.approx(1.0, abs=0.02)
    assert run_scale(falling[::runs], zero[::runs], np.arange(40), 0.002) == 1.0


TRUE = {"lstm": PowerLaw(1.9, 2.6, 0.065, 1e16), "modern": PowerLaw(1.9, 2.0, 0.09, 1e16)}


def test_a_copy_of_an_architecture_gains_nothing(study) -> None:
    """A against a copy of A with fresh noise: no gap and a gain of 1, inside the intervals; a literal copy: exactly."""
    frame = pd.concat([study(archs=("lstm",)), study(archs=("lstm",), seed=1).assign(arch="copy")])
    boot = bootstrap(frame.assign(run=range(len(frame))), draws=200)
    gap = percentiles(boot.law("copy").alpha - boot.law("lstm").alpha)
    level = percentiles(boot.law("copy").log_a - boot.law("lstm").log_a)
    assert gap is not None and gap[0] < 0 < gap[1] and level is not None and level[0] < 0 < level[1]
    literal = pd.concat([study(archs=("lstm",)), study(archs=("lstm",)).assign(arch="copy")])
    fit = fit_frontiers(final_frontier(literal))
    assert fit.laws["copy"] == fit.laws["lstm"]


@pytest.mark.parametrize("repeats", [1, 2])
def test_units_of_compute_change_compute_only(study, repeats: int) -> None:
    frame = study(budgets=9, repeats=repeats)
    one, two = (bootstrap(part, draws=20) for part in (frame, frame.assign(flops=frame["flops"] / 1e15)))
    assert np.allclose(one.alpha, two.alpha, rtol=1e-6) and np.allclose(one.E, two.E, rtol=1e-6)
    assert np.allclose(one.log_a, two.log_a, atol=1e-7)
    assert np.allclose(one.log_c0 - two.log_c0, np.log(1e15))


def test_architectures_that_share_seeds_are_drawn_in_pairs(study) -> None:
    frame = study(budgets=10).assign(seed=0)
    paired, alone = bootstrap(frame, draws=40), bootstrap(frame.drop(columns="seed"), draws=40)
    # The same noise for every architecture: then pairs leave the same runs in every draw, and the laws move together.
    same = pd.concat([study(budgets=10, archs=("lstm",)).assign(arch=arch, seed=0) for arch in ("a", "b")])
    boot = bootstrap(same.assign(run=range(20)), draws=40)
    assert np.allclose(boot.alpha[:, 0], boot.alpha[:, 1], rtol=1e-9, equal_nan=True)
    assert not equal(paired.alpha, alone.alpha)


@pytest.mark.parametrize(("repeats", "sigma"), [(1, 0.005), (4, 0.02)])
def test_the_band_of_a_law_lies_about_it(study, repeats: int, sigma: float) -> None:
    """A frontier of lowest runs has been lowered by choice once; a draw that chooses again must not lower it twice."""
    frame = study(budgets=6, repeats=repeats, sigma=sigma)
    fit = fit_frontiers(final_frontier(frame))
    boot = bootstrap(frame, draws=300, fit=fit, method="parametric")
    for arch in fit.archs:
        drawn = boot.law(arch)
        for flops in fit.flops_range[arch]:
            loss = drawn.E + np.exp(drawn.log_reducible(np.log(flops)))
            assert abs(np.median(loss) - fit.laws[arch].loss(flops)) < 0.35 * np.std(loss)


def test_choice_lowers_near_ties_only() -> None:
    """Two ties are lowered by 1/sqrt(pi) of their scale (the mean of the lower of two normals), a clear winner is not."""
    groups = np.array([0, 0, 1, 1, 2])
    excess = np.array([0.0, 0.0, 0.0, 5.0, 0.3])
    scale = np.array([0.5, 1.0, np.nan])
    found = choice_shift(np.zeros(5), excess, groups, scale)
    assert found.shape == (3, 3)
    assert found[:2, 0] == pytest.approx([-0.5 / math.sqrt(math.pi), -1.0 / math.sqrt(math.pi)], abs=0.08)
    assert np.abs(found[:2, 1:]).max() < 0.08
    assert not choice_shift(np.zeros(2), np.zeros(2), np.array([0, 1]), scale).any()


def test_bca_is_the_percentile_interval_without_bias_and_skewness() -> None:
    values = np.random.default_rng(0).standard_normal(100_000)
    plain, corrected = percentiles(values), bca(values, float(np.median(values)), np.array([-1.0, 0.0, 1.0]))
    assert corrected is not None and plain is not None and corrected == pytest.approx(plain, abs=0.01)
    # Efron 1987: for an exponential mean the corrected interval moves to the right.
    skewed = np.random.default_rng(1).exponential(size=(20_000, 20)).mean(axis=1)
    sample = np.random.default_rng(2).exponential(size=20)
    right = bca(skewed, float(np.median(skewed)), (sample.sum() - sample) / 19)
    ends = percentiles(skewed)
    assert right is not None and ends is not None and right[0] > ends[0] and right[1] > ends[1]
    assert bca(values, 100.0, values) is None and bca(np.array([]), 0.0, values) is None


def test_leave_one_out_refits_without_each_run(study) -> None:
    frame = study(budgets=8, archs=("lstm",))
    fit = fit_frontiers(final_frontier(frame), loss="squared")
    jack = leave_one_out(frame, fit)
    assert jack.draws == 8
    without = fit_frontiers(final_frontier(frame.drop(index=3)), loss="squared")
    assert jack.alpha[3, 0] == pytest.approx(without.laws["lstm"].alpha, rel=1e-6)


KINDS = ("bootstrap", "profile")


def covers(found, low: float) -> None:
    for one in found:
        assert one.share >= low, (one.quantity, one.method, one.share)


def test_intervals_cover_the_truth_in_a_few_sweeps() -> None:
    """Near-ties: 60 sweeps. True coverage of .95 gives at least 51 hits with probability .999, of .80 only .21."""
    found = measure_coverage(
        TRUE,
        "lstm",
        "modern",
        Design(budgets=8, widths=3, size_step=1.4),
        Noise(s0=0.012),
        sweeps=60,
        draws=100,
        seed=5,
        kinds=KINDS,
    )
    covers(found, 51 / 60)
    widths = {(one.quantity, one.method): one.width for one in found}
    for quantity in ("exponent", "gap", "ln gain", "ln loss"):
        assert 1 / 1.5 < widths[quantity, "bootstrap"] / widths[quantity, "profile"] < 1.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("design", "noise"),
    [
        (Design(budgets=7, decades=2.0), Noise(s0=0.006, q=3.3, paired=0.3, tuning=0.0005)),
        (Design(budgets=12, decades=4.0), Noise(s0=0.006, q=3.3, paired=0.3, tuning=0.0005)),
        (Design(budgets=8, widths=5, size_step=1.4), Noise(s0=0.012)),
        (Design(budgets=10, widths=1, size_step=1.3), Noise(s0=0.006, paired=0.6)),
        (Design(budgets=5, widths=2), Noise(s0=0.006)),
    ],
)
def test_intervals_cover_the_truth(design: Design, noise: Noise) -> None:
    """200 sweeps: a true coverage of .92 gives at least .87 with probability .995."""
    covers(measure_coverage(TRUE, "lstm", "modern", design, noise, sweeps=200, seed=6, kinds=KINDS), 0.87)
