"""fit_frontiers: recovery, invariance, statuses, the rules for E and for the objective."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from algoprog.scaling import InputError, Status, final_frontier, fit_frontiers, profile_irreducible
from algoprog.scaling.fit import robust_scale

quick = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rows(arch: str, flops: np.ndarray, loss: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"arch": arch, "flops": flops, "loss": loss})


@quick
@given(
    e=st.floats(0.5, 2.5),
    alphas=st.lists(st.floats(0.04, 0.3), min_size=1, max_size=3),
    a=st.floats(0.8, 4.0),
)
def test_noise_free_laws_are_recovered(e: float, alphas: list[float], a: float) -> None:
    flops = np.geomspace(1e14, 1e17, 7)
    frame = pd.concat([rows(f"arch{i}", flops, e + a * (flops / 1e15) ** -alpha) for i, alpha in enumerate(alphas)])
    fit = fit_frontiers(frame)
    assert fit.status is Status.CONVERGED
    assert pytest.approx(e, rel=1e-6) == fit.E
    for i, alpha in enumerate(alphas):
        law = fit.laws[f"arch{i}"]
        assert law.alpha == pytest.approx(alpha, rel=1e-6)
        assert law.loss(1e15) == pytest.approx(e + a, rel=1e-9)
        assert law.C0 == pytest.approx(math.sqrt(1e14 * 1e17), rel=1e-9)
        assert law.E == fit.E
    assert fit.loss == "squared" and "rounding" in fit.reason or len(frame) < 2 * fit.n_parameters


@quick
@given(st.floats(1e-6, 1e6), st.integers(0, 1000))
def test_units_of_compute_do_not_matter(study, factor: float, seed: int) -> None:
    frame = study(seed=seed)
    one, two = fit_frontiers(frame), fit_frontiers(frame.assign(flops=frame["flops"] * factor))
    assert pytest.approx(one.E, rel=1e-6) == two.E
    for arch, law in one.laws.items():
        assert two.laws[arch].alpha == pytest.approx(law.alpha, rel=1e-6)
        assert two.laws[arch].loss(factor * 3e16) == pytest.approx(law.loss(3e16), rel=1e-9)


@quick
@given(st.integers(0, 2**31), st.integers(0, 1000))
def test_order_of_rows_does_not_matter(study, order: int, seed: int) -> None:
    frame = study(seed=seed)
    assert fit_frontiers(frame) == fit_frontiers(frame.sample(frac=1, random_state=order))


def test_exponents_come_near_the_truth_with_noise(study) -> None:
    fit = fit_frontiers(final_frontier(study(budgets=14, decades=4.0, sigma=0.002, seed=5)))
    assert fit.status is Status.CONVERGED
    assert pytest.approx(1.9, abs=0.15) == fit.E
    assert fit.laws["modern"].alpha == pytest.approx(0.09, abs=0.008)
    assert fit.laws["lstm"].alpha == pytest.approx(0.065, abs=0.006)
    assert fit.sigma == pytest.approx(0.002, rel=0.4)
    assert fit.n_points == {"lstm": 14, "modern": 14, "retro": 14}
    assert fit.degrees_of_freedom == 42 - 7


def test_one_shared_e_beats_separate_ones(study) -> None:
    """Section 6: sharing E is what makes exponents comparable over few decades."""
    shared, separate = [], []
    for seed in range(16):
        frame = study(budgets=8, decades=2.0, seed=seed, archs=("lstm", "modern"))
        fit = fit_frontiers(frame)
        alone = {arch: fit_frontiers(part).laws[arch].alpha for arch, part in frame.groupby("arch")}
        shared.append(fit.laws["modern"].alpha - fit.laws["lstm"].alpha)
        separate.append(alone["modern"] - alone["lstm"])
    assert np.std(shared) < 0.5 * np.std(separate)


def test_fixed_e_is_kept_and_fits_worse_than_the_optimum(study) -> None:
    frame = study()
    free, fixed = fit_frontiers(frame, loss="squared"), fit_frontiers(frame, 1.5, loss="squared")
    assert fixed.E == 1.5 and fixed.irreducible == 1.5
    assert {law.E for law in fixed.laws.values()} == {1.5}
    assert fixed.n_parameters == 6 and free.n_parameters == 7
    assert fixed.objective > free.objective
    assert fit_frontiers(frame, 0.0).status is Status.CONVERGED


def test_fixed_e_makes_the_fit_separable(study) -> None:
    frame = study()
    together = fit_frontiers(frame, 1.7, loss="squared")
    for arch, part in frame.groupby("arch"):
        alone = fit_frontiers(part, 1.7, loss="squared")
        assert alone.laws[arch].alpha == pytest.approx(together.laws[arch].alpha, rel=1e-9)


def test_local_slope_under_a_wrong_e(study) -> None:
    """Section 6: assuming E' instead of E gives the local slope alpha (L - E)/(L - E')."""
    flops = np.geomspace(0.9e16, 1.1e16, 5)
    fit = fit_frontiers(rows("lstm", flops, 1.9 + 2.6 * (flops / 1e16) ** -0.065), 1.0)
    assert fit.laws["lstm"].alpha == pytest.approx(0.065 * 2.6 / 3.5, rel=1e-3)


def test_one_outlier_moves_huber_less_than_squares(study) -> None:
    frame = study(budgets=14, sigma=0.001)
    spoilt = frame.copy()
    spoilt.loc[3, "loss"] *= 1.03
    moved = {}
    for kind in ("huber", "squared"):
        clean, hit = (fit_frontiers(table, 1.9, loss=kind).laws["lstm"].alpha for table in (frame, spoilt))
        moved[kind] = abs(hit - clean)
    assert moved["huber"] < 0.5 * moved["squared"]


def test_the_objective_is_chosen_by_the_number_of_points_and_said(study) -> None:
    few, many = fit_frontiers(study(budgets=4)), fit_frontiers(study(budgets=5))
    assert few.loss == "squared" and "12 points for 7 parameters" in few.reason and few.knee == math.inf
    assert many.loss == "huber" and "MAD" in many.reason and 0 < many.knee < 0.02
    assert fit_frontiers(study(), loss="squared").reason == "squared: requested"
    assert fit_frontiers(study(), knee=1e-3).knee == 1e-3


def test_too_few_points_is_a_status_with_the_law_where_it_is_defined(study) -> None:
    frame = study(budgets=3)
    fit = fit_frontiers(frame)
    assert fit.status is Status.CONVERGED  # nine points, seven parameters
    short = fit_frontiers(frame.drop(index=[0]))
    assert short.status is Status.TOO_FEW and set(short.laws) == {"lstm", "modern", "retro"}
    assert fit_frontiers(study(budgets=3, archs=("lstm",))).status is Status.TOO_FEW
    assert math.isnan(fit_frontiers(study(budgets=3, archs=("lstm",))).sigma)


def test_architecture_with_one_point_is_left_out_and_named(study) -> None:
    frame = study()
    one = frame[(frame["arch"] != "retro") | (frame.index == frame.index[-1])]
    fit = fit_frontiers(one)
    assert fit.left_out == ("retro",) and set(fit.laws) == {"lstm", "modern"}
    assert fit.status is Status.TOO_FEW and fit.n_points["retro"] == 1


@pytest.mark.parametrize("keep", [1, 2])
def test_no_law_is_defined(study, keep: int) -> None:
    fit = fit_frontiers(study(budgets=keep, archs=("lstm",)))
    assert fit.status is Status.TOO_FEW and fit.laws == {} and math.isnan(fit.E)
    assert fit.left_out == ("lstm",) and "not fitted" in fit.reason


def test_pure_power_law_ends_at_the_bound_of_e() -> None:
    flops = np.geomspace(1e14, 1e18, 9)
    convex = np.exp(-0.02 * np.log(flops / 1e16) - 0.002 * np.log(flops / 1e16) ** 2)  # falls ever faster: E wants < 0
    fit = fit_frontiers(rows("lstm", flops, 4 * convex))
    assert fit.status is Status.BOUND_HIT and fit.E == 0.0
    assert fit.laws["lstm"].alpha > 0


def test_a_step_has_no_exponent() -> None:
    flops = np.geomspace(1e14, 1e18, 9)
    loss = np.where(flops < 2e14, 5.0, 4.0) - 1e-7 * np.arange(9)
    assert fit_frontiers(rows("lstm", flops, loss)).status is Status.BOUND_HIT


@pytest.mark.parametrize("seed", range(5))
def test_wild_data_never_raise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for n in (2, 3, 5, 12):
        frame = pd.concat(rows(arch, np.exp(rng.uniform(0, 60, n)), np.exp(rng.normal(0, 3, n))) for arch in ("a", "b"))
        fit = fit_frontiers(frame)
        assert isinstance(fit.status, Status)
        for law in fit.laws.values():
            assert math.isfinite(law.alpha) and math.isfinite(law.a)


def test_profile_set_contains_the_fit_and_follows_its_definition(study) -> None:
    from scipy.stats import f as f_distribution

    frame = study(budgets=14, decades=4.0)
    fit = fit_frontiers(frame, "profile", loss="squared")
    assert fit.E_interval is not None and fit.E_interval[0] < fit.E < fit.E_interval[1]
    freedom = fit.degrees_of_freedom
    for end in fit.E_interval:
        ratio = fit_frontiers(frame, end, loss="squared").objective / fit.objective
        assert freedom * (ratio - 1) == pytest.approx(f_distribution.ppf(0.95, 1, freedom), rel=0.02)
    profile = profile_irreducible(frame, fit)
    assert profile.objective.min() == pytest.approx(fit.objective, rel=1e-9)
    assert fit_frontiers(frame, "shared").E_interval is None


def test_weights_act_like_repeated_points(study) -> None:
    frame = study(budgets=6)
    twice = pd.concat([frame, frame.iloc[[2]]], ignore_index=True)
    weighted = frame.assign(weight=np.where(np.arange(len(frame)) == 2, 2.0, 1.0))
    assert fit_frontiers(weighted, 1.8, loss="squared").laws["lstm"].loss(1e17) == pytest.approx(
        fit_frontiers(twice, 1.8, loss="squared").laws["lstm"].loss(1e17), rel=1e-9
    )


def test_results_are_frozen(study) -> None:
    with pytest.raises(FrozenInstanceError):
        fit_frontiers(study()).E = 1.0  # type: ignore[misc]


def test_robust_scale_of_a_normal_sample() -> None:
    assert robust_scale(np.random.default_rng(0).normal(3, 2, 20000)) == pytest.approx(2, rel=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"irreducible": "separate"}, "unknown rule for the irreducible loss; got 'separate'"),
        ({"irreducible": 9.0}, "bad irreducible loss; got 9.0; expected 0 <= E < "),
        ({"irreducible": -1.0}, "bad irreducible loss"),
        ({"irreducible": math.nan}, "bad irreducible loss"),
        ({"loss": "lad"}, "unknown objective"),
        ({"knee": 0.0}, "bad Huber knee"),
        ({"knee": 1e-3, "loss": "squared"}, "bad Huber knee"),
    ],
)
def test_bad_arguments_are_refused(study, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_frontiers(study(), **arguments)  # type: ignore[arg-type]
