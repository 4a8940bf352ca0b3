"""The gain from repeats at one budget: truths recovered, what it does not depend on, and why there may be none."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoprog.scaling import (
    FrontierFit,
    InputError,
    MatchedGain,
    PowerLaw,
    factorial,
    final_frontier,
    fit_frontiers,
    matched_gain,
)
from algoprog.scaling.intervals.bootstrap import Bootstrap, bootstrap

LAW = PowerLaw(1.9, 1.2, 0.12, 1e11)
BUDGETS = (1e10, 4e10, 1.6e11, 6.4e11, 2.56e12)


def recipes(costs: Mapping[str, float], sigma: float = 0.0, seed: int = 0, repeats: int = 3) -> pd.DataFrame:
    """Runs of recipes that need ``costs`` times the compute of the law, with noise ``sigma`` of ln L in every run."""
    rng = np.random.default_rng(seed)
    rows = [
        {"arch": arch, "flops": flops, "seed": k, "loss": LAW.loss(flops / cost) * math.exp(sigma * rng.standard_normal())}
        for arch, cost in costs.items() for flops in BUDGETS for k in range(repeats)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(run=[f"r{i}" for i in range(len(rows))])


def laws_of(points: pd.DataFrame, draws: int = 100) -> tuple[FrontierFit, Bootstrap]:
    """The law of ``new`` alone, which is all that is needed."""
    new = points[points["arch"] == "new"]
    fit = fit_frontiers(final_frontier(new), 1.9)
    return fit, bootstrap(new, 1.9, draws, 0, fit=fit)


def gain_of(points: pd.DataFrame, laws: tuple[FrontierFit, Bootstrap] | None = None) -> MatchedGain:
    return matched_gain(points, "old", "new", *(laws or laws_of(points)))


@pytest.fixture(scope="module")
def noisy() -> pd.DataFrame:
    return recipes({"new": 1.0, "old": 1.5}, 0.002)


@pytest.fixture(scope="module")
def laws(noisy: pd.DataFrame) -> tuple[FrontierFit, Bootstrap]:
    return laws_of(noisy)


# ---------------------------------------------------------------- known answers


@pytest.mark.parametrize("cost", [0.7, 1.0, 1.37, 5.0])
def test_exact_laws_give_the_exact_gain(cost: float) -> None:
    points = recipes({"new": 1.0, "old": cost})
    found = gain_of(points)
    assert found.gain == pytest.approx(cost, rel=1e-6) and found.reason == ""
    assert found.interval is not None
    low, high = found.interval
    assert low == pytest.approx(cost, rel=1e-4) and high == pytest.approx(cost, rel=1e-4)
    assert found.flops == pytest.approx(BUDGETS[-1]) and found.repeats == (3, 3) and found.rates is None
    # A loss of more than its own largest budget can only be read beyond the runs of the law.
    assert found.decades_beyond == pytest.approx(max(0.0, -math.log10(cost)), abs=1e-6)
    assert found.in_range == (cost >= 1.0)


def test_a_loss_difference_over_the_local_slope() -> None:
    """d ln G = d ln(L - E) / alpha: at E + 0.5 nats a loss higher by 0.01 costs ln(1.02)/0.12 of ln compute."""
    points = recipes({"new": 1.0, "old": 1.0})
    old, reducible = points["arch"] == "old", LAW.loss(BUDGETS[-1]) - LAW.E
    points.loc[old, "loss"] += 0.02 * reducible
    found = gain_of(points)
    assert math.log(found.gain or 0.0) == pytest.approx(math.log(1.02) / 0.12, rel=1e-5)


def test_it_is_a_factorial_experiment_with_one_factor(noisy: pd.DataFrame, laws: tuple[FrontierFit, Bootstrap]) -> None:
    fit, boot = laws
    [effect] = factorial(
        noisy[noisy["flops"] == BUDGETS[-1]], {"arch": ("old", "new")}, law=fit.laws["new"], law_draws=boot.law("new"),
        law_range=fit.flops_range["new"], seed=0,
    ).effects  # fmt: skip
    found = gain_of(noisy, laws)
    assert (found.gain, found.interval) == (effect.gain, effect.gain_interval)
    assert "replicates pooled over cells, 4 degrees of freedom; with 100 draws" in found.method


def test_intervals_of_a_known_law_cover() -> None:
    laws, sets = laws_of(recipes({"new": 1.0})), 150
    found = [gain_of(recipes({"new": 1.0, "old": 1.5}, 0.004, seed), laws).interval for seed in range(sets)]
    inside = sum(ends is not None and ends[0] <= 1.5 <= ends[1] for ends in found)
    assert 134 <= inside <= 149  # 142.5 expected, three standard errors are 8


# ---------------------------------------------------------------- what it does not depend on


@settings(max_examples=10, deadline=None)
@given(order=st.randoms(use_true_random=False), swap=st.permutations([0, 1, 2]))
def test_neither_the_order_of_rows_nor_the_names_of_seeds_matter(order, swap: list[int]) -> None:
    points = recipes({"new": 1.0, "old": 1.5}, 0.002)
    laws = laws_of(points)
    rows = list(range(len(points)))
    order.shuffle(rows)
    other = points.iloc[rows].assign(seed=[swap[k] for k in points["seed"].iloc[rows]])
    assert gain_of(other, laws) == gain_of(points, laws)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), sigma=st.floats(1e-4, 0.01))
def test_whatever_the_noise_the_interval_is_finite_and_holds_the_gain(seed: int, sigma: float) -> None:
    found = gain_of(recipes({"new": 1.0, "old": 1.5}, sigma, seed))
    assert found.gain is not None and found.interval is not None
    low, high = found.interval
    assert 0 < low < found.gain < high < math.inf


def test_old_and_new_exchanged_under_one_law_are_reciprocal(noisy: pd.DataFrame) -> None:
    fit, boot = laws_of(noisy)
    both = replace(fit, laws={**fit.laws, "old": fit.laws["new"]}, flops_range={**fit.flops_range, "old": (1e10, 3e12)})
    back = matched_gain(noisy, "new", "old", both, replace(boot, archs=("old",)))
    found = gain_of(noisy, (fit, boot))
    assert (back.gain or 0.0) * (found.gain or 0.0) == pytest.approx(1.0)


# ---------------------------------------------------------------- the budget


def test_the_largest_common_budget_is_that_within_five_percent(
    noisy: pd.DataFrame, laws: tuple[FrontierFit, Bootstrap]
) -> None:
    largest = noisy["flops"] == BUDGETS[-1]
    stopped_early = noisy.assign(flops=noisy["flops"].where(~largest | (noisy["arch"] == "new"), 0.96 * BUDGETS[-1]))
    assert gain_of(stopped_early, laws).flops == pytest.approx(BUDGETS[-1] * math.sqrt(0.96))
    far = noisy.assign(flops=noisy["flops"].where(~largest | (noisy["arch"] == "new"), 0.94 * BUDGETS[-1]))
    assert gain_of(far, laws).flops == pytest.approx(BUDGETS[-2])
    alone = noisy[~largest | (noisy["arch"] == "new")]
    assert gain_of(alone, laws).flops == pytest.approx(BUDGETS[-2])
    assert matched_gain(far, "old", "new", *laws, tolerance=0.1).flops == pytest.approx(BUDGETS[-1] * math.sqrt(0.94))


def test_only_the_chosen_rate_of_a_search_counts_and_what_it_left_is_told() -> None:
    """A parabola of 0.15 nats per decade^2 around 0.0116, repeated at 0.01: 6e-4 nats left by both cancel in the gain."""
    rows = []
    for arch, cost in (("new", 1.0), ("old", 1.5)):
        for flops, (rate, seeds) in itertools.product(BUDGETS, ((0.003, 1), (0.01, 3), (0.03, 1))):
            for k in range(seeds):
                noise = 1e-5 * (k - 1) if seeds == 3 else 0.0
                loss = LAW.loss(flops / cost) + 0.15 * math.log10(rate / 0.0116) ** 2 + noise
                rows.append({"arch": arch, "flops": flops, "lr": rate, "seed": k, "loss": loss})
    points = pd.DataFrame(rows)
    found = matched_gain(points, "old", "new", *laws_of(points[points["lr"] == 0.01]))
    assert found.repeats == (3, 3) and found.gain == pytest.approx(1.5, rel=0.01)
    assert found.rates is not None and (found.rates.searches, found.rates.without_optimum) == (2, 0)
    assert found.rates.left == pytest.approx(0.15 * math.log10(0.01 / 0.0116) ** 2, rel=0.01)
    assert found.at_optimal == pytest.approx(1.5, rel=0.01)


# ---------------------------------------------------------------- why there may be none


def test_no_common_budget(noisy: pd.DataFrame, laws: tuple[FrontierFit, Bootstrap]) -> None:
    elsewhere = noisy.assign(flops=noisy["flops"].where(noisy["arch"] == "new", 2.0 * noisy["flops"]))
    found = gain_of(elsewhere, laws)
    assert found.gain is found.interval is found.flops is found.at_optimal is None
    assert found.repeats == (0, 0) and found.reason == "old and new share no budget"


@pytest.mark.parametrize(("lone", "repeats"), [("old", (1, 3)), ("new", (3, 1))])
def test_one_run_is_no_repeat(
    noisy: pd.DataFrame, laws: tuple[FrontierFit, Bootstrap], lone: str, repeats: tuple[int, int]
) -> None:
    found = gain_of(noisy[(noisy["arch"] != lone) | (noisy["seed"] == 0)], laws)
    assert found.gain is found.interval is None and found.repeats == repeats
    assert found.flops == pytest.approx(BUDGETS[-1])
    assert found.reason == f"1 run of {lone} at this budget, 2 repeats are needed"


def test_runs_that_did_not_finish_are_no_repeats(noisy: pd.DataFrame, laws: tuple[FrontierFit, Bootstrap]) -> None:
    lost = (noisy["arch"] == "old") & (noisy["seed"] > 0)
    states = noisy.assign(state=np.where(lost, "diverged", "done"), step=1)
    assert gain_of(states, laws).repeats == (1, 3)


def test_runs_of_several_sizes_are_no_repeats(noisy: pd.DataFrame, laws: tuple[FrontierFit, Bootstrap]) -> None:
    found = gain_of(noisy.assign(width=16 * (1 + noisy["seed"]), lr=0.01), laws)
    assert found.gain is None
    assert found.reason == "runs of old at this budget differ in width and are no repeats"


def test_a_loss_below_the_irreducible_one(noisy: pd.DataFrame, laws: tuple[FrontierFit, Bootstrap]) -> None:
    low = noisy.assign(loss=noisy["loss"].where((noisy["arch"] == "new") | (noisy["seed"] > 0), 1.8))
    found = gain_of(low, laws)
    assert found.gain is None and found.reason == "a loss lies at or below the irreducible loss of the law of new"


def test_a_loss_that_the_law_reaches_only_beyond_its_runs_is_flagged(laws: tuple[FrontierFit, Bootstrap]) -> None:
    """1,000 times the compute of a budget 256 times the smallest: 0.59 decades below the law's runs."""
    found = gain_of(recipes({"new": 1.0, "old": 1000.0}), laws)
    assert not found.in_range and found.decades_beyond == pytest.approx(math.log10(1000 / 256), abs=0.05)
    assert found.gain == pytest.approx(1000.0, rel=0.25)


def test_without_draws_of_the_law_the_repeats_still_give_an_interval(noisy: pd.DataFrame) -> None:
    fit, boot = laws_of(noisy)
    empty = np.full_like(boot.E, np.nan)
    found = gain_of(noisy, (fit, replace(boot, E=empty)))
    assert found.interval is not None and "draws" not in found.method


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        ("new", "new", {}, "same architecture"),
        ("oldd", "new", {}, "did you mean old"),
        ("new", "old", {}, "unknown architecture"),
        ("old", "new", {"tolerance": -1.0}, "bad budget tolerance"),
    ],
)
def test_bad_arguments(
    noisy: pd.DataFrame, laws: tuple[FrontierFit, Bootstrap], a: str, b: str, options: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        matched_gain(noisy, a, b, *laws, **options)
    with pytest.raises(InputError, match="missing column"):
        matched_gain(noisy.drop(columns="loss"), "old", "new", *laws)
