"""The frontier against a brute-force reading of its rules."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoprog.scaling import InputError, final_frontier
from algoprog.scaling.frontier import budget_groups

# Few distinct values, so that ties in compute, in loss and in both are common.
points = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=25)


def table(pairs: list[tuple[float, float]], arch: str = "modern") -> pd.DataFrame:
    return pd.DataFrame([{"arch": arch, "flops": float(c), "loss": float(loss)} for c, loss in pairs])


def brute_force(pairs: list[tuple[int, int]]) -> list[tuple[float, float]]:
    kept = {
        (float(c), float(loss))
        for c, loss in pairs
        if not any(c2 <= c and l2 <= loss and (c2 < c or l2 < loss) for c2, l2 in pairs)
    }
    return sorted(kept)


def pairs_of(frame: pd.DataFrame) -> list[tuple[float, float]]:
    return list(zip(frame["flops"], frame["loss"], strict=True))


@given(points)
def test_lower_left_rule_against_brute_force(pairs: list[tuple[int, int]]) -> None:
    assert pairs_of(final_frontier(table(pairs), tolerance=0.0)) == brute_force(pairs)


@given(points, points, st.randoms(use_true_random=False))
def test_architectures_do_not_mix_and_row_order_does_not_matter(one, two, shuffler) -> None:
    frame = pd.concat([table(one, "lstm"), table(two, "modern")], ignore_index=True)
    order = list(range(len(frame)))
    shuffler.shuffle(order)
    found = final_frontier(frame.iloc[order], tolerance=0.0)
    assert pairs_of(found[found["arch"] == "lstm"]) == brute_force(one)
    assert pairs_of(found[found["arch"] == "modern"]) == brute_force(two)


@given(st.lists(st.floats(1e12, 1e14), min_size=1, max_size=40), st.floats(0, 0.3))
def test_budgets_are_no_wider_than_the_tolerance_and_keep_their_order(flops: list[float], tolerance: float) -> None:
    values = np.sort(np.array(flops))
    groups = budget_groups(values, tolerance)
    assert groups[0] == 0 and set(np.diff(groups)) <= {0, 1}
    for group in range(groups.max() + 1):
        mine = values[groups == group]
        assert mine.max() <= mine.min() * (1 + tolerance)
        if group:
            assert mine.min() > values[groups == group - 1].min() * (1 + tolerance)


def test_the_loser_of_a_budget_does_not_survive_by_stopping_a_step_early() -> None:
    # Three widths at nominally 1e12 FLOPs; the widest is worst, and its steps are coarsest, so it stops first.
    frame = table([(0.98e12, 4.4), (0.995e12, 4.1), (1.0e12, 4.0), (1.95e12, 3.8), (2.0e12, 3.9)])
    assert pairs_of(final_frontier(frame)) == [(1.0e12, 4.0), (1.95e12, 3.8)]
    assert len(final_frontier(frame, tolerance=0.0)) == 4
    assert list(final_frontier(frame)["budget_runs"]) == [3, 2]
    assert set(final_frontier(frame)["arch_runs"]) == {5}


def test_near_budgets_are_not_chained_into_one() -> None:
    flops = 1e15 * 1.04 ** np.arange(50)
    frame = table(list(zip(flops, np.linspace(5, 4, 50), strict=True)))
    assert len(final_frontier(frame)) == 25


def test_exact_ties_are_kept_once() -> None:
    assert len(final_frontier(table([(1, 5), (1, 5), (2, 4), (2, 4)]), tolerance=0.0)) == 2


def test_other_columns_survive() -> None:
    frame = table([(1e15, 5.0), (1e16, 4.0)]).assign(run=["a", "b"], width=[32, 64])
    assert list(final_frontier(frame)["width"]) == [32, 64]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"arch": ["a"], "flops": [1.0]}), "missing column loss"),
        (pd.DataFrame({"arch": [], "flops": [], "loss": []}), "no points"),
        (table([(1, 5), (2, -1)]), "row 2: bad loss; got '-1.0'"),
        (table([(0, 5)]), "bad flops"),
        (pd.DataFrame({"arch": ["a"], "flops": [1.0], "loss": [np.nan]}), "bad loss"),
    ],
)
def test_bad_points_are_refused(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        final_frontier(frame)


def test_bad_tolerance_is_refused() -> None:
    with pytest.raises(InputError, match="tolerance"):
        final_frontier(table([(1, 5)]), tolerance=-0.1)
