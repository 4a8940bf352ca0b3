"""Factorial ablations: textbook numbers, truths recovered, coverage, and what happens where cells are missing."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text
from typer.testing import CliRunner

from algoprog.cli import app
from algoprog.report.figure_factorial import factorial_figure
from algoprog.report.figures import write_figures
from algoprog.scaling import FactorialAnalysis, InputError, PowerLaw, factorial, load_runs
from algoprog.scaling.interactions.commands import Conversion, interactions, interactions_json, parse_factors
from algoprog.scaling.laws import LogLaw

LAW = PowerLaw(1.9, 3.0, 0.09, 1e15)
UNIT = PowerLaw(0.0, 1.0, 1.0, 1.0)
"""A law under which ln gain is ``-ln(L C)``: responses of textbooks go in as they are, over 100."""


def pairs(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    return {name: (f"old-{name}", f"new-{name}") for name in names}


def table(cells: dict[tuple[int, ...], Sequence[float]], names: Sequence[str], law: PowerLaw = LAW,
          flops: float = 1e15) -> pd.DataFrame:  # fmt: skip
    """Runs with the given ln gains per cell (0 old, 1 new): losses read off ``law``."""
    rows = []
    for cell, gains in cells.items():
        for number, gain in enumerate(gains):
            levels = {name: pairs(names)[name][level] for name, level in zip(names, cell, strict=True)}
            loss = law.loss(flops * math.exp(gain))
            rows.append(levels | {"run": f"{cell}-{number}-{flops:g}", "flops": flops, "loss": loss})
    return pd.DataFrame(rows)


def textbook(values: Sequence[Sequence[float]], names: str) -> pd.DataFrame:
    """Responses in standard order: the first factor changes fastest."""
    cells = {tuple((i >> j) & 1 for j in range(len(names))): np.array(v) / 100 for i, v in enumerate(values)}
    return table(cells, names, UNIT)


def gains(found: FactorialAnalysis, scale: float = 1.0) -> dict[str, float]:
    assert all(effect.log_gain is not None for effect in found.effects)
    return {effect.name: scale * (effect.log_gain or 0.0) for effect in found.effects}


# ---------------------------------------------------------------- known answers


def test_unreplicated_textbook_example_with_lenths_method() -> None:
    """Filtration rates, 2^4 without replicates (Montgomery, Design and Analysis of Experiments, sections 6.5 and 6.5.1).

    Lenth's pseudo standard error is 2.625 and the margin of error 2.571 * 2.625 = 6.748.
    """
    rates = [45, 71, 48, 65, 68, 60, 80, 65, 43, 100, 45, 104, 75, 86, 70, 96]
    found = factorial(textbook([[rate] for rate in rates], "ABCD"), pairs("ABCD"), law=UNIT)
    assert gains(found, 100) == pytest.approx(
        {
            "A": 21.625, "B": 3.125, "C": 9.875, "D": 14.625, "A:B": 0.125, "A:C": -18.125, "A:D": 16.625,
            "B:C": 2.375, "B:D": -0.375, "C:D": -1.125, "A:B:C": 1.875, "A:B:D": 4.125, "A:C:D": -1.625,
            "B:C:D": -2.625, "A:B:C:D": 1.375,
        }
    )  # fmt: skip
    for effect in found.effects:
        assert effect.interval is not None and effect.log_gain is not None
        assert 100 * (effect.interval[1] - effect.log_gain) == pytest.approx(6.748, abs=1e-3)
    assert found.method.startswith("Lenth") and found.degrees_of_freedom == 5
    assert found.sigma == pytest.approx(2.625 * 2 / 100)  # sd of a run: an effect is a difference of means of 8


def test_replicated_textbook_example() -> None:
    """Yield of a process, 2^2 with 3 replicates (Montgomery, section 6.2): A 8.33, B -5.00, AB 1.67, MSE 3.92 on 8."""
    values = [[28, 25, 27], [36, 32, 32], [18, 19, 23], [31, 30, 29]]
    found = factorial(textbook(values, "AB"), pairs("AB"), law=UNIT)
    assert gains(found, 100) == pytest.approx({"A": 25 / 3, "B": -5.0, "A:B": 5 / 3})
    assert found.sigma == pytest.approx(math.sqrt(47 / 12) / 100) and found.degrees_of_freedom == 8
    half = 2.306004 * math.sqrt(47 / 12) * math.sqrt(4 / 12)  # t(8) * s * sqrt(4/N)
    for effect in found.effects:
        assert effect.interval is not None and effect.log_gain is not None
        assert 100 * (effect.interval[1] - effect.log_gain) == pytest.approx(half, rel=1e-6)


def test_published_bars_and_joint_gain() -> None:
    """Gains 1.44, 1.87, 1.04, 1.09, 1.17 of single changes predict 3.5715 together; the study measured 1.33."""
    bars = {"position": 1.44, "placement": 1.87, "schedule": 1.04, "norm": 1.09, "activation": 1.17}
    cells = {(1,) * 5: [0.0], (0,) * 5: [-math.log(1.33)]}
    for j, bar in enumerate(bars.values()):
        cells[tuple(int(i != j) for i in range(5))] = [-math.log(bar)]
    found = factorial(table(cells, list(bars)), pairs(list(bars)), law=LAW)
    assert found.product.predicted.gain == pytest.approx(3.5715, abs=5e-5)
    assert found.product.measured.gain == pytest.approx(1.33)
    assert found.product.excess.gain == pytest.approx(3.5715 / 1.33, abs=1e-4)
    assert {single.name: single.gain for single in found.product.singles} == pytest.approx(bars)
    assert len(found.missing) == 25 and len(found.assumed_zero) == 26
    assert any("25 of 32 cells have no run" in warning for warning in found.warnings)


def test_a_loss_difference_over_the_local_slope() -> None:
    """For a small difference, ln G is the fall of ln(L - E) over the exponent; more FLOPs count against it."""
    base, better = 4.0, 3.999
    points = pd.DataFrame({"a": ["o", "n"], "run": ["x", "y"], "flops": [1e15, 1.1e15], "loss": [base, better]})
    found = factorial(points, {"a": ("o", "n")}, law=LAW)
    expected = math.log((base - 1.9) / (better - 1.9)) / 0.09 - math.log(1.1)
    assert found.effects[0].log_gain == pytest.approx(expected, rel=1e-9)
    assert found.effects[0].interval is None and "no interval" in found.method


# ---------------------------------------------------------------- properties

GAIN = st.floats(-1.0, 1.0, allow_nan=False)


@settings(max_examples=40, deadline=None)
@given(
    main=st.lists(GAIN, min_size=2, max_size=4), replicates=st.integers(1, 2), reference=st.sampled_from(["new", "old"])
)
def test_additive_log_gains_multiply(main: list[float], replicates: int, reference: str) -> None:
    names = "ABCD"[: len(main)]
    cells = {cell: [float(np.dot(cell, main))] * replicates for cell in itertools.product((0, 1), repeat=len(main))}
    found = factorial(table(cells, names), pairs(names), law=LAW, reference=reference)  # type: ignore[arg-type]
    got = gains(found)
    assert [got[name] for name in names] == pytest.approx(main, abs=1e-9)
    assert all(abs(value) < 1e-9 for name, value in got.items() if ":" in name)
    assert found.product.predicted.log_gain == pytest.approx(sum(main), abs=1e-9)
    assert found.product.measured.log_gain == pytest.approx(sum(main), abs=1e-9)
    assert found.product.excess.log_gain == pytest.approx(0.0, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(values=st.lists(GAIN, min_size=16, max_size=16), seed=st.integers(0, 10**6))
def test_nothing_depends_on_the_order_of_rows_or_factors(values: list[float], seed: int) -> None:
    cells = {cell: values[2 * i : 2 * i + 2] for i, cell in enumerate(itertools.product((0, 1), repeat=3))}
    points = table(cells, "ABC")
    first = factorial(points, pairs("ABC"), law=LAW)
    shuffled = points.sample(frac=1.0, random_state=seed)
    assert interactions_json(factorial(shuffled, pairs("ABC"), law=LAW)) == interactions_json(first)
    turned = factorial(points, pairs("CAB"), law=LAW)
    order = {frozenset(effect.factors): effect for effect in turned.effects}
    for effect in first.effects:
        other = order[frozenset(effect.factors)]
        assert other.log_gain == pytest.approx(effect.log_gain, abs=1e-9)
        assert other.interval == pytest.approx(effect.interval, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(values=st.lists(GAIN, min_size=8, max_size=8))
def test_effects_are_contrasts_of_cell_means_and_turn_with_the_levels(values: list[float]) -> None:
    cells = {cell: [values[i]] for i, cell in enumerate(itertools.product((0, 1), repeat=3))}
    found = gains(factorial(table(cells, "ABC"), pairs("ABC"), law=LAW))
    for name, value in found.items():
        signs = [math.prod(2 * cell["ABC".index(letter)] - 1 for letter in name.split(":")) for cell in cells]
        assert value == pytest.approx(np.dot(signs, values) / 4, abs=1e-9)
    back = gains(factorial(table(cells, "ABC"), pairs("ABC") | {"A": ("new-A", "old-A")}, law=LAW))
    assert back["A"] == pytest.approx(-found["A"], abs=1e-9) and back["B"] == pytest.approx(found["B"], abs=1e-9)


def test_interactions_sum_to_what_multiplication_misses() -> None:
    """With one interaction b of two factors, undoing both loses less than the product says: excess is 2 b."""
    cells = {(a, b): [0.3 * a + 0.5 * b + 0.4 * a * b] for a in (0, 1) for b in (0, 1)}
    found = factorial(table(cells, "AB"), pairs("AB"), law=LAW)
    assert gains(found)["A:B"] == pytest.approx(0.2)  # half the change of one effect with the other factor
    assert found.product.excess.log_gain == pytest.approx(0.4)
    assert found.product.predicted.log_gain == pytest.approx(0.7 + 0.9)
    old = factorial(table(cells, "AB"), pairs("AB"), law=LAW, reference="old")
    assert old.product.excess.log_gain == pytest.approx(-0.4)


# ---------------------------------------------------------------- intervals


def study(rng: np.random.Generator, sigma: float, replicates: int) -> tuple[pd.DataFrame, dict[str, float]]:
    truth = {"A": 0.5, "B": 0.3, "C": 0.0, "A:B": -0.2, "A:C": 0.0, "B:C": 0.1, "A:B:C": 0.0}
    cells = {}
    for cell in itertools.product((0, 1), repeat=3):
        signs = dict(zip("ABC", (2 * level - 1 for level in cell), strict=True))
        mean = sum(value / 2 * math.prod(signs[name] for name in term.split(":")) for term, value in truth.items())
        cells[cell] = list(mean + sigma * rng.standard_normal(replicates))
    return table(cells, "ABC"), truth


def coverage(sigma: float, replicates: int, studies: int, **arguments: object) -> tuple[float, float]:
    """Share of effects covered, and of (predicted, measured, excess)."""
    rng = np.random.default_rng(3)
    hits: list[bool] = []
    totals: list[bool] = []
    for _ in range(studies):
        points, truth = study(rng, sigma, replicates)
        found = factorial(points, pairs("ABC"), law=LAW, **arguments)  # type: ignore[arg-type]
        for effect in found.effects:
            assert effect.interval is not None
            hits.append(effect.interval[0] <= truth[effect.name] <= effect.interval[1])
        cell = {c: sum(truth[t] / 2 * math.prod(2 * c["ABC".index(n)] - 1 for n in t.split(":")) for t in truth)
                for c in itertools.product((0, 1), repeat=3)}  # fmt: skip
        new, old = cell[1, 1, 1], cell[0, 0, 0]
        predicted = 3 * new - cell[0, 1, 1] - cell[1, 0, 1] - cell[1, 1, 0]
        product = found.product
        for effect, value in ((product.predicted, predicted), (product.measured, new - old),
                              (product.excess, predicted - new + old)):  # fmt: skip
            assert effect.interval is not None
            totals.append(effect.interval[0] <= value <= effect.interval[1])
    return float(np.mean(hits)), float(np.mean(totals))


def test_intervals_from_replicates_cover() -> None:
    effects, totals = coverage(sigma=0.05, replicates=2, studies=150)
    assert 0.92 <= effects <= 0.98 and 0.90 <= totals <= 0.985


def test_lenths_intervals_cover_at_least_the_nominal_share() -> None:
    """Four of seven effects are real here: Lenth's method then errs on the wide side."""
    effects, totals = coverage(sigma=0.02, replicates=1, studies=120)
    assert effects >= 0.93 and totals >= 0.93


def test_bootstrap_of_runs_within_cells() -> None:
    effects, totals = coverage(sigma=0.05, replicates=4, studies=40, method="bootstrap", draws=300)
    assert effects >= 0.88 and totals >= 0.85
    points, _ = study(np.random.default_rng(0), 0.05, 4)
    found = factorial(points, pairs("ABC"), law=LAW, method="bootstrap")
    assert "bootstrap of runs within cells, 1000 draws, seed 0" in found.method
    with pytest.raises(InputError, match="3 or more in every cell"):
        factorial(study(np.random.default_rng(0), 0.05, 2)[0], pairs("ABC"), law=LAW, method="bootstrap")


def test_draws_of_the_law_widen_the_interval_and_constant_ones_do_not() -> None:
    points, _ = study(np.random.default_rng(5), 0.03, 2)
    plain = factorial(points, pairs("ABC"), law=LAW)
    rng = np.random.default_rng(6)
    n = 4000

    def draws(spread: float) -> LogLaw:
        alpha = LAW.alpha * np.exp(spread * rng.standard_normal(n))
        return LogLaw(np.full(n, LAW.E), np.full(n, math.log(LAW.a)), alpha, np.full(n, math.log(LAW.C0)))

    same = factorial(points, pairs("ABC"), law=LAW, law_draws=draws(0.0))
    wide = factorial(points, pairs("ABC"), law=LAW, law_draws=draws(0.2))
    for a, b, c in zip(plain.effects, same.effects, wide.effects, strict=True):
        assert a.interval is not None and b.interval is not None and c.interval is not None
        width = a.interval[1] - a.interval[0]
        assert b.interval == pytest.approx(a.interval, abs=0.1 * width) and a.log_gain == c.log_gain
    strongest, strongest_wide = plain.effects[0].interval, wide.effects[0].interval
    assert strongest is not None and strongest_wide is not None
    assert strongest_wide[1] - strongest_wide[0] > 2 * (strongest[1] - strongest[0])
    assert "4000 draws of the reference law" in wide.method


def test_order_limits_the_model_and_frees_an_error() -> None:
    rng = np.random.default_rng(1)
    cells = {cell: [float(np.dot(cell, [0.4, 0.2, 0.1])) + 0.02 * rng.standard_normal()]
             for cell in itertools.product((0, 1), repeat=3)}  # fmt: skip
    found = factorial(table(cells, "ABC"), pairs("ABC"), law=LAW, order=1)
    assert found.assumed_zero == ("A:B", "A:C", "B:C", "A:B:C") and found.degrees_of_freedom == 4
    assert found.method.startswith("t, variance around the model") and not found.warnings


# ---------------------------------------------------------------- budgets and curves


def test_several_budgets_are_blocks_and_are_told_apart() -> None:
    cells = {cell: [float(np.dot(cell, [0.4, 0.2]))] * 2 for cell in itertools.product((0, 1), repeat=2)}
    grown = {cell: [2 * g for g in values] for cell, values in cells.items()}
    points = pd.concat([table(cells, "AB"), table(grown, "AB", flops=8e15)])
    found = factorial(points, pairs("AB"), law=LAW)
    assert gains(found) == pytest.approx({"A": 0.6, "B": 0.3, "A:B": 0.0}, abs=1e-9)
    assert found.budgets == pytest.approx((1e15, 8e15))
    assert [part.effects[0].log_gain for part in found.by_budget] == pytest.approx([0.4, 0.8])
    assert [part.budgets for part in found.by_budget] == [pytest.approx((1e15,)), pytest.approx((8e15,))]


def curves(final: dict[str, float], steps: int = 5) -> pd.DataFrame:
    """Curves that fall by 0.1 nats per factor of 2 in compute to their final loss at 1e15."""
    rows = []
    for level, loss in final.items():
        for step in range(steps):
            back = steps - 1 - step
            rows.append({"run": level, "a": level, "step": step, "flops": 1e15 / 2**back, "loss": loss + 0.1 * back})
    return pd.DataFrame(rows)


def test_curves_are_cut_at_the_lowest_common_loss() -> None:
    points = curves({"o": 4.0, "n": 3.85})
    found = factorial(points, {"a": ("o", "n")}, at_loss="common")
    assert found.effects[0].log_gain == pytest.approx(1.5 * math.log(2))
    assert "loss 4," in found.conversion and "before the end of their schedules" in found.conversion
    assert factorial(points, {"a": ("o", "n")}, at_loss=4.05).effects[0].log_gain == pytest.approx(1.5 * math.log(2))


def test_losses_that_are_never_reached_or_were_there_from_the_start_have_a_status() -> None:
    points = curves({"o": 4.0, "n": 3.85})
    never = factorial(points, {"a": ("o", "n")}, at_loss=3.9)
    cell = next(cell for cell in never.cells if cell.levels == {"a": "o"})
    assert (cell.status, cell.log_gain, cell.interval) == ("never reached", -math.inf, None)
    assert never.product.measured.log_gain is None and any("never reach" in warning for warning in never.warnings)
    json.dumps(interactions_json(never), allow_nan=False)
    early = factorial(points, {"a": ("o", "n")}, at_loss=4.3)
    assert {cell.status for cell in early.cells} == {"no reference cell", "reached before the first point"}
    with pytest.raises(InputError, match="no cell has a finite gain"):
        factorial(points, {"a": ("o", "n")}, at_loss=1.0)


def test_a_loss_below_the_laws_irreducible_loss_has_a_status() -> None:
    cells = {(0, 0): [0.0], (1, 0): [0.1], (0, 1): [0.2], (1, 1): [0.3]}
    points = table(cells, "AB")
    points.loc[3, "loss"] = 1.85
    found = factorial(points, pairs("AB"), law=LAW, reference="old")
    assert [cell.status for cell in found.cells] == ["measured"] * 3 + ["below irreducible"]
    assert found.cells[3].log_gain == math.inf and found.product.measured.log_gain is None
    assert found.product.predicted.log_gain == pytest.approx(0.3)


# ---------------------------------------------------------------- learning-rate searches

BEST = 0.01
BOWL = 0.8  # nats per decade^2: half a decade off costs 0.2 nats


def searched(
    cells: dict[tuple[int, ...], float], seeds: int = 3, chosen: float = BEST, sigma: float = 0.002, flops: float = 1e15
) -> pd.DataFrame:
    """Per cell three rates half a decade apart with one seed, the middle one, ``chosen``, with all seeds."""
    rng = np.random.default_rng(4)
    rows = []
    for cell, gain in cells.items():
        for step in (-0.5, 0.0, 0.5):
            rate = chosen * 10**step
            for seed in range(seeds if step == 0 else 1):
                loss = LAW.loss(flops * math.exp(gain)) + BOWL * math.log10(rate / BEST) ** 2
                levels = {name: pairs("AB")[name][level] for name, level in zip("AB", cell, strict=True)}
                rows.append(
                    levels
                    | {"run": f"{cell}-{rate:.4g}-{seed}", "flops": flops, "lr": rate, "seed": seed, "arch": str(cell)}
                    | {"width": 16, "loss": loss + sigma * rng.standard_normal()}
                )
    return pd.DataFrame(rows)


MULTIPLY = {cell: float(np.dot(cell, [0.4, 0.2])) for cell in itertools.product((0, 1), repeat=2)}


def test_of_a_search_only_the_runs_at_the_chosen_rate_count() -> None:
    """Untuned runs are 0.2 nats worse, a factor of e in compute: taken for repeats they would bury every effect."""
    points = searched(MULTIPLY)
    found = factorial(points, pairs("AB"), law=LAW)
    assert found.excluded == {"at another learning rate of a search": 8}
    assert any("8 runs left out: at another learning rate of a search" in warning for warning in found.warnings)
    assert all(cell.runs == 3 for cell in found.cells) and found.degrees_of_freedom == 8
    assert gains(found) == pytest.approx({"A": 0.4, "B": 0.2, "A:B": 0.0}, abs=0.03)
    # 0.002 nats over the slope of the law: sd of ln gain about 0.002 / (0.09 * (L - E)).
    assert found.sigma is not None and found.sigma < 0.02
    naive = factorial(points.drop(columns="lr"), pairs("AB"), law=LAW)
    assert naive.excluded == {} and naive.sigma is not None and naive.sigma > 20 * found.sigma
    assert not any("differ in lr" in warning for warning in found.warnings)
    assert interactions_json(found)["learning_rates"]["searches"] == 4


def test_a_lucky_run_at_another_rate_does_not_choose_it() -> None:
    points = searched(MULTIPLY)
    grid = np.flatnonzero((points["lr"] > BEST * 1.1) & (points["arch"] == "(0, 0)"))
    points.loc[grid, "loss"] = points["loss"].min() - 0.5
    found = factorial(points, pairs("AB"), law=LAW)
    assert gains(found) == pytest.approx({"A": 0.4, "B": 0.2, "A:B": 0.0}, abs=0.03)


def test_what_a_search_left_on_the_table_moves_the_effects() -> None:
    """The cell with both changes is run a fifth of a decade off its optimum: 0.03 nats that its search can tell."""
    off = {cell: 10**0.2 * BEST if cell == (1, 1) else BEST for cell in MULTIPLY}
    points = pd.concat([searched({cell: gain}, chosen=off[cell], sigma=0.0005) for cell, gain in MULTIPLY.items()])
    points["run"] = points["run"] + points["lr"].astype(str)
    found = factorial(points, pairs("AB"), law=LAW)
    assert found.rates is not None and found.rates.searches == 4 and found.rates.without_optimum == 0
    assert found.rates.left == pytest.approx(BOWL * 0.2**2, rel=0.1)
    moved = found.rates.at_optimal
    truth = {"A": 0.4, "B": 0.2, "A:B": 0.0, "predicted": 0.6, "measured": 0.6, "excess": 0.0}
    assert moved == pytest.approx(truth, abs=0.03)
    assert found.product.measured.log_gain is not None and found.product.measured.log_gain < 0.52


def test_a_search_that_ends_at_an_edge_says_so() -> None:
    points = searched(MULTIPLY, chosen=BEST * 10**1.5)
    found = factorial(points, pairs("AB"), law=LAW)
    assert found.rates is not None and found.rates.without_optimum == 4 and found.rates.left == 0.0
    assert any("In 4 of 4 learning-rate searches no optimum" in warning for warning in found.warnings)


def test_searches_of_two_budgets_in_one_block_are_two_searches() -> None:
    """A block is up to half as wide again as its cheapest run; a search is not."""
    points = pd.concat([searched(MULTIPLY), searched(MULTIPLY, chosen=BEST * 1.5, flops=1.3e15)], ignore_index=True)
    points["run"] = np.arange(len(points)).astype(str)
    found = factorial(points, pairs("AB"), law=LAW)
    assert len(found.budgets) == 1 and found.excluded == {"at another learning rate of a search": 16}
    assert found.rates is not None and found.rates.searches == 8


def test_without_a_search_nothing_changes() -> None:
    """Repeats by seed at one rate, or at rates by a law of width, are no search; neither are two rates."""
    cells = {cell: [gain, gain + 0.01, gain - 0.02] for cell, gain in MULTIPLY.items()}
    plain = interactions_json(factorial(table(cells, "AB"), pairs("AB"), law=LAW))
    for rates in (
        np.full(12, 0.01),
        np.full(12, np.nan),
        np.repeat([0.01, 0.01, 0.02, 0.02], 3),
    ):
        found = interactions_json(factorial(table(cells, "AB").assign(lr=rates), pairs("AB"), law=LAW))
        assert found == plain and found["learning_rates"] is None


def test_budgets_of_the_reference_alone_leave_lenths_method_to_the_factorial() -> None:
    """Runs of one cell at other budgets, made for the law, tell no effect and must not cost the interval."""
    cells = {cell: [float(np.dot(cell, [0.4, 0.2, 0.0])) + 0.01 * i] for i, cell in
             enumerate(itertools.product((0, 1), repeat=3))}  # fmt: skip
    alone = factorial(table(cells, "ABC"), pairs("ABC"), law=LAW)
    more = pd.concat([table(cells, "ABC"), table({(1, 1, 1): [0.6]}, "ABC", flops=4e15)])
    found = factorial(more, pairs("ABC"), law=LAW)
    assert found.method == alone.method and found.method.startswith("Lenth")
    assert [e.interval for e in found.effects] == [pytest.approx(e.interval) for e in alone.effects]
    assert len(found.by_budget) == 1


# ---------------------------------------------------------------- missing cells


def test_missing_cells_give_up_orders_from_the_top() -> None:
    cells = {c: [float(np.dot(c, [0.4, 0.2, 0.1]))] for c in itertools.product((0, 1), repeat=3) if c != (0, 0, 0)}
    found = factorial(table(cells, "ABC"), pairs("ABC"), law=LAW)
    assert found.missing == ({"A": "old-A", "B": "old-B", "C": "old-C"},)
    assert found.assumed_zero == ("A:B:C",) and found.product.measured.log_gain is None
    assert gains(found)["A"] == pytest.approx(0.4) and found.product.predicted.log_gain == pytest.approx(0.7)
    assert any("more than 2 factors are taken as zero" in warning for warning in found.warnings)


def test_effects_that_cannot_be_told_apart_have_no_number() -> None:
    """B and C always change together: their effects have no estimate, that of A has one."""
    cells = {(0, 0, 0): [0.0], (1, 0, 0): [0.4], (0, 1, 1): [0.3], (1, 1, 1): [0.7]}
    found = factorial(table(cells, "ABC"), pairs("ABC"), law=LAW)
    assert {effect.name: effect.log_gain is None for effect in found.effects} == {"A": False, "B": True, "C": True}
    assert found.effects[0].log_gain == pytest.approx(0.4)
    assert any("cannot tell apart the effects of B, C" in warning for warning in found.warnings)


def test_other_levels_and_unfinished_runs_are_counted() -> None:
    cells = {cell: [float(np.dot(cell, [0.4, 0.2]))] for cell in itertools.product((0, 1), repeat=2)}
    points = table(cells, "AB").assign(state="done")
    extra = points.iloc[[0, 1]].assign(run=["x", "y"], A=["relu", "old-A"], state=["done", "diverged"])
    found = factorial(pd.concat([points, extra]), pairs("AB"), law=LAW)
    assert found.excluded == {"at another level": 1, "diverged": 1}
    assert gains(found)["A"] == pytest.approx(0.4)


def test_repeats_that_are_none_are_noticed() -> None:
    points = pd.concat([table({(0,): [0.0, 0.1], (1,): [0.2, 0.3]}, "A")]).assign(lr=[0.1, 0.2, 0.1, 0.2])
    assert any("differ in lr" in warning for warning in factorial(points, pairs("A"), law=LAW).warnings)


def test_extrapolation_of_the_law_is_told() -> None:
    points = table({(0,): [0.0], (1,): [3.0]}, "A")
    assert factorial(points, pairs("A"), law=LAW, law_range=(1e14, 1e17)).warnings == ()
    (warning,) = factorial(points, pairs("A"), law=LAW, law_range=(1e14, 2e15)).warnings
    assert "extrapolated by 1.0 decades" in warning  # e^3 = 20.1 times 1e15, over 2e15


# ---------------------------------------------------------------- bad input and the command


@pytest.mark.parametrize(
    ("factors", "arguments", "message"),
    [
        ({"A": ("old-A", "new-A"), "norms": ("a", "b")}, {"law": LAW}, "no such column"),
        ({"A": ("old-A", "newA")}, {"law": LAW}, "did you mean new-A"),
        ({"A": ("old-A", "old-A")}, {"law": LAW}, "same level"),
        ({}, {"law": LAW}, "bad number of factors"),
        (pairs("A"), {}, "say how a loss becomes a gain; got 'neither'"),
        (pairs("A"), {"law": LAW, "at_loss": 4.0}, "got 'both'"),
        (pairs("A"), {"at_loss": -1.0}, "bad loss"),
        (pairs("A"), {"at_loss": 4.0}, "no training curves"),
        (pairs("A"), {"law": LAW, "reference": "middle"}, "unknown reference"),
        (pairs("A"), {"law": LAW, "order": 2}, "bad order"),
        (pairs("A"), {"law": LAW, "draws": 5}, "bad interval"),
    ],
)
def test_bad_arguments(factors, arguments, message: str) -> None:
    points = table({(0, 0): [0.0], (1, 1): [0.1]}, "AB")
    with pytest.raises(InputError, match=message):
        factorial(points, factors, **arguments)


def test_factors_of_the_command_line() -> None:
    assert parse_factors(["model.norm=post, pre"]) == {"model.norm": ("post", "pre")}
    for bad in ("norm", "norm=a", "norm=a,b,c", "=a,b", "norm=a,"):
        with pytest.raises(InputError, match="bad factor"):
            parse_factors([bad])
    with pytest.raises(InputError, match="given twice"):
        parse_factors(["a=x,y", "a=x,y"])


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """An ablation of two factors with three seeds, and runs of the reference architecture over 1.5 decades."""
    rng = np.random.default_rng(2)
    cells = {cell: list(np.dot(cell, [0.4, 0.2]) + 0.02 * rng.standard_normal(3)) for cell in
             itertools.product((0, 1), repeat=2)}  # fmt: skip
    table(cells, ["activation", "layers"]).assign(layers=lambda t: np.where(t["layers"] == "new-layers", 4, 2)).to_csv(
        tmp_path / "ablation.csv", index=False
    )
    flops = np.geomspace(2e14, 8e15, 12)
    loss = LAW.loss(flops) * np.exp(0.001 * rng.standard_normal(12))
    pd.DataFrame({"arch": "base", "flops": flops, "loss": loss}).to_csv(tmp_path / "law.csv", index=False)
    return tmp_path / "ablation.csv", tmp_path / "law.csv"


def test_command_prints_one_object_and_draws(files: tuple[Path, Path], tmp_path: Path) -> None:
    ablation, law = files
    options = ["interactions", str(ablation), "--factor", "activation=old-activation,new-activation",
               "--factor", "layers=2,4", "--law-runs", str(law), "--irreducible", "1.9", "--draws", "200"]  # fmt: skip
    result = CliRunner().invoke(app, [*options, "--json", "--out", str(tmp_path / "figures")])
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    effects = {effect["name"]: effect for effect in value["effects"]}
    assert effects["activation"]["log_gain"] == pytest.approx(0.4, abs=0.06)
    assert effects["activation"]["interval"][0] < 0.4 < effects["activation"]["interval"][1]
    assert effects["activation:layers"]["interval"][0] < 0 < effects["activation:layers"]["interval"][1]
    assert "200 draws of the reference law" in value["method"] and value["warnings"] == []
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"interactions.png", "interactions.pdf"}
    shown = CliRunner().invoke(app, options)
    assert shown.exit_code == 0 and "predicted by multiplication" in shown.stdout


@pytest.mark.parametrize(
    ("conversion", "message"),
    [
        (Conversion(), "exactly one of --law-runs"),
        (Conversion(exponent=0.1, at_loss="4"), "got '--exponent and --at-loss'"),
        (Conversion(exponent=0.1), "needs its E"),
        (Conversion(exponent=-0.1, irreducible="1.9"), "bad power law"),
        (Conversion(at_loss="low"), "bad loss"),
        (Conversion(at_loss="common"), "no training curves"),
        (Conversion(exponent=0.1, irreducible="1.9", law_arch="x"), "without runs to fit it to"),
    ],
)
def test_bad_conversions(files: tuple[Path, Path], conversion: Conversion, message: str) -> None:
    with pytest.raises(InputError, match=message):
        interactions(files[0], ["activation=old-activation,new-activation"], conversion)


def test_levels_come_along_only_where_asked_for(files: tuple[Path, Path]) -> None:
    required = ("flops", "loss")
    assert "activation" not in load_runs(files[0], required=required)
    kept = load_runs(files[0], required=required, keep=["activation", "layers"])
    assert set(kept["layers"]) == {"2", "4"} and set(kept["arch"]) == {"all"}
    with pytest.raises(InputError, match="did you mean activation"):
        load_runs(files[0], required=required, keep=["activations"])


# ---------------------------------------------------------------- the figure


def drawn(names: Sequence[str], cells: dict[tuple[int, ...], Sequence[float]]) -> FactorialAnalysis:
    return factorial(table(cells, names), pairs(names), law=LAW)


def shown(figure: Figure) -> list[Text]:
    """Titles, labels, notes, legends, and the labels of ticks inside the view."""
    found = [text for legend in figure.legends for text in legend.get_texts()]
    for axes in [*figure.axes, *(child for parent in figure.axes for child in parent.child_axes)]:
        found += [*axes.texts, axes.title, axes._left_title]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if axis.get_visible() and low <= tick.get_loc() <= high]
            found += [label for tick in ticks for label in (tick.label1, tick.label2) if label.get_visible()]
            found += [axis.label] if axis.get_visible() else []
    return found


def test_figure_shows_every_effect_and_its_texts_do_not_collide(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ["activation", "position", "norm placement", "a schedule with a long name"]
    full = {c: list(np.dot(c, [0.2, 0.4, 0.6, 0.05]) + 0.05 * rng.standard_normal(2))
            for c in itertools.product((0, 1), repeat=4)}  # fmt: skip
    part = {c: values for c, values in full.items() if c != (0, 0, 0, 0)}
    for cells in (full, part):
        found = drawn(names, cells)
        figure = factorial_figure(found)
        figure.draw_without_rendering()
        above, below = figure.axes
        values = [line for line in above.get_lines() if line.get_gid() == "value"]
        known = [abs(effect.log_gain) for effect in found.effects if effect.log_gain is not None]
        assert [abs(line.get_xdata()[0]) for line in values] == pytest.approx(sorted(known, reverse=True))
        assert sum(line.get_gid() == "interval" for line in above.get_lines()) == len(known)
        told = [text.get_text() for text in below.texts]
        assert told == ([] if cells is full else ["needs a cell that is missing"])
        boxes = [(t.get_text(), t.get_window_extent()) for t in shown(figure) if t.get_text().strip()]
        assert len(boxes) > 40
        for i, (text, box) in enumerate(boxes):
            assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, text
            assert not [other for other, rival in boxes[i + 1 :] if box.overlaps(rival)], text
    write_figures({"interactions": figure}, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        write_figures({"interactions": figure}, tmp_path / "file" / "below")
