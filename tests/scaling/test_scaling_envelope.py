"""The envelope of training curves, and the four frontier rules behind one call."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoprog.scaling import InputError, Surface, envelope_frontier, final_frontier, fit_frontiers, frontier_by_rule
from algoprog.scaling.envelope import envelope_biases, winners_curse

SURFACE = Surface(1.69, 406.4, 410.7, 0.34, 0.28)

# Few distinct values, so that ties in compute, in loss and in both are common.
curves = st.lists(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=7), min_size=1, max_size=4
)


def table(runs: list[list[tuple[int, int]]], arch: str = "modern") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"arch": arch, "run": f"{arch}{i}", "step": step, "flops": float(c), "loss": float(loss)}
            for i, curve in enumerate(runs)
            for step, (c, loss) in enumerate(curve)
        ]
    )


def brute_force(frame: pd.DataFrame) -> set[tuple[float, float]]:
    pairs = list(zip(frame["flops"], frame["loss"], strict=True))
    return {
        (c, loss) for c, loss in pairs if not any(c2 <= c and l2 <= loss and (c2 < c or l2 < loss) for c2, l2 in pairs)
    }


@given(curves, curves, st.randoms(use_true_random=False))
def test_lower_left_set_against_brute_force(one, two, shuffler) -> None:
    frame = pd.concat([table(one, "lstm"), table(two, "modern")], ignore_index=True)
    order = list(range(len(frame)))
    shuffler.shuffle(order)
    found = envelope_frontier(frame.iloc[order], warmup=0.0)
    for arch in ("lstm", "modern"):
        mine = found[found["arch"] == arch]
        pairs = list(zip(mine["flops"], mine["loss"], strict=True))
        assert set(pairs) == brute_force(frame[frame["arch"] == arch]) and len(pairs) == len(set(pairs))
        assert list(mine["flops"]) == sorted(mine["flops"])
        assert (np.diff(mine["loss"]) < 0).all()


def training_curves(sizes: int = 6, points: int = 40, sigma: float = 0.0, arch: str = "modern") -> pd.DataFrame:
    """Runs of different sizes on one surface, each logged along the way: the ideal of constant learning rates."""
    rng = np.random.default_rng(0)
    rows = []
    for i, n in enumerate(np.geomspace(1e6, 1e8, sizes)):
        for step, d in enumerate(np.geomspace(2e6, 2e9 * math.sqrt(n / 1e7), points), start=1):
            loss = SURFACE.loss(n, d) * math.exp(sigma * rng.standard_normal())
            rows.append((arch, f"{arch}-{i}", step, n, d, 6 * n * d, loss, "done"))
    columns = ["arch", "run", "step", "params", "tokens", "flops", "loss", "state"]
    return pd.DataFrame(rows, columns=columns)


def test_envelope_of_one_surface_lies_just_above_its_frontier() -> None:
    frame = training_curves()
    found = frontier_by_rule(frame, "envelope")
    excess = found.rows["loss"] / SURFACE.frontier.loss(found.rows["flops"].to_numpy()) - 1
    inner = found.rows["flops"].between(1e14, 3e16)
    assert (excess > 0).all() and excess[inner].max() < 0.03
    assert found.runs == {"modern": 6} and found.points["modern"] <= 240
    assert found.rows["run"].nunique() > 3 and found.rule == "envelope"


def test_noise_makes_the_envelope_optimistic() -> None:
    clean, noisy = (frontier_by_rule(training_curves(12, 60, s), "envelope").rows for s in (0.0, 0.01))
    ratios = [float(np.median(r["loss"] / SURFACE.frontier.loss(r["flops"].to_numpy()))) for r in (clean, noisy)]
    assert ratios[1] < ratios[0] - 0.003


def test_points_of_warmup_are_inadmissible() -> None:
    frame = table([[(1, 1), (50, 9), (100, 8)]])
    assert list(envelope_frontier(frame, warmup=0.0)["loss"]) == [1.0]
    assert list(envelope_frontier(frame, warmup=0.02)["loss"]) == [9.0, 8.0]
    assert list(envelope_frontier(frame)["arch_points"]) == [2, 2]


def test_five_biases_are_stated() -> None:
    biases = frontier_by_rule(training_curves(), "envelope").biases
    assert len(biases) == 5 and all(sentence.endswith(".") for sentence in biases)
    assert "1.16 times" in envelope_biases(5)[0]


@pytest.mark.parametrize(("k", "expected"), [(1, 0.0), (3, 0.846), (5, 1.163), (9, 1.485), (15, 1.736)])
def test_winners_curse(k: int, expected: float) -> None:
    """By quadrature, and simulated."""
    assert winners_curse(k) == pytest.approx(expected, abs=5e-4)
    drawn = np.random.default_rng(k).standard_normal((20000, k)).min(axis=1)
    assert -drawn.mean() == pytest.approx(expected, abs=0.03)


def test_final_rule_is_the_final_frontier() -> None:
    frame = training_curves()
    last = frame[frame["step"] == 40].reset_index(drop=True)
    found = frontier_by_rule(frame, "final", tolerance=0.1)
    pd.testing.assert_frame_equal(found.rows, final_frontier(last, 0.1))
    assert found.runs == found.points == {"modern": 6} and found.biases


def grid(arch: str, surface: Surface) -> pd.DataFrame:
    rows = []
    for flops in 10.0 ** np.arange(15, 20):
        for n in surface.optimal(flops)[0] * np.geomspace(0.25, 4, 7):
            rows.append((arch, n, flops / 6 / n, flops, surface.loss(n, flops / 6 / n)))
    return pd.DataFrame(rows, columns=["arch", "params", "tokens", "flops", "loss"])


@pytest.mark.parametrize("rule", ["slices", "surface"])
def test_rules_that_need_a_surface_recover_its_frontier(rule: str) -> None:
    other = Surface(1.69, 300.0, 500.0, 0.3, 0.33)
    found = frontier_by_rule(pd.concat([grid("a", SURFACE), grid("b", other)]), rule)
    assert found.runs == {"a": 35, "b": 35} and len(found.rows) == 10 and found.biases
    fit = fit_frontiers(found.rows)
    for arch, surface in (("a", SURFACE), ("b", other)):
        assert fit.laws[arch].alpha == pytest.approx(surface.gamma, rel=1e-4)
        assert fit.laws[arch].loss(1e17) == pytest.approx(surface.frontier.loss(1e17), rel=1e-6)
    assert fit.n_runs == {"a": 35, "b": 35}


@pytest.mark.parametrize(
    ("rule", "change", "message"),
    [
        ("best", lambda f: f, "unknown frontier rule; got 'best'; expected final, envelope, slices, surface"),
        ("envelope", lambda f: f[f["step"] == 40], "no training curves"),
        ("envelope", lambda f: f.drop(columns="step"), "no column step"),
        ("slices", lambda f: f.drop(columns="params"), "missing column params"),
        ("surface", lambda f: f[f["run"] == "modern-0"], "found no frontier"),
        ("final", lambda f: f.assign(state="diverged"), "no finished run"),
    ],
)
def test_points_that_a_rule_cannot_use_are_refused(rule: str, change, message: str) -> None:
    with pytest.raises(InputError, match=message):
        frontier_by_rule(change(training_curves()), rule)


@pytest.mark.parametrize("warmup", [-0.1, 1.0, math.nan])
def test_bad_warmup_is_refused(warmup: float) -> None:
    with pytest.raises(InputError, match="bad warmup"):
        envelope_frontier(training_curves(), warmup=warmup)
    with pytest.raises(InputError, match="bad number"):
        winners_curse(0)
