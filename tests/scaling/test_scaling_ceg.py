"""Gains: the study's numbers, the algebra of anchors, infinities, flags, intervals."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from algoprog.scaling import (
    InputError,
    PowerLaw,
    bootstrap,
    final_frontier,
    fit_frontiers,
    gain_at_flops,
    gain_at_loss,
    gain_function,
    law_gain,
)

LSTM, TRANSFORMER = PowerLaw(1.9, 36.3, 0.065), PowerLaw(1.9, 81.7, 0.091)


def other_e(law: PowerLaw, e: float) -> PowerLaw:
    return PowerLaw(e, law.a, law.alpha, law.C0)


@pytest.mark.parametrize(
    ("flops", "new", "old"),
    [(1e16, 9.5447, 5.0099), (1e17, 23.975, 9.6726), (1e18, 60.223, 18.675), (1e23, 6022.3, 500.99)],
)
def test_gains_of_the_study(flops: float, new: float, old: float) -> None:
    assert law_gain(LSTM, TRANSFORMER, flops) == pytest.approx(new, rel=1e-4)
    assert law_gain(LSTM, TRANSFORMER, flops, "old") == pytest.approx(old, rel=1e-4)


@pytest.mark.parametrize(
    ("e_new", "anchor", "expected"),
    [
        (1.95, "new", (17.267, 206.50, 1956.6)),
        (1.85, "new", (33.529, 717.03, 20255)),
        (1.95, "old", (7.9632, 51.250, 308.87)),
        (1.85, "old", (11.709, 93.773, 796.21)),
    ],
)
def test_gains_with_unequal_irreducible_losses(e_new: float, anchor: str, expected: tuple[float, ...]) -> None:
    new = other_e(TRANSFORMER, e_new)
    found = [law_gain(LSTM, new, flops, anchor) for flops in (1e17, 1e20, 1e23)]  # type: ignore[arg-type]
    assert found == pytest.approx(expected, rel=1e-4)


def test_peak_limit_and_parity_of_the_study() -> None:
    higher, lower = other_e(TRANSFORMER, 1.95), other_e(TRANSFORMER, 1.85)
    peak = 8.660e30
    assert law_gain(LSTM, higher, peak) == pytest.approx(50891, rel=1e-3)
    assert all(law_gain(LSTM, higher, peak * k) < law_gain(LSTM, higher, peak) for k in (0.5, 2.0))
    limit = 2.044e35
    assert law_gain(LSTM, lower, limit * 1.001) == math.inf
    assert math.isfinite(law_gain(LSTM, lower, limit * 0.999))
    parity = 3.553e13
    assert law_gain(LSTM, TRANSFORMER, parity) == pytest.approx(1, rel=1e-3)
    assert law_gain(LSTM, TRANSFORMER, parity, "old") == pytest.approx(1, rel=1e-3)


def test_compute_beyond_which_the_new_law_cannot_follow() -> None:
    """E_B > E_A: H = 0 beyond (a_A/(E_B - E_A))^(1/alpha_A)."""
    new = other_e(TRANSFORMER, 2.5)
    limit = (36.3 / 0.6) ** (1 / 0.065)
    assert law_gain(LSTM, new, limit * 1.001, "old") == 0.0
    assert law_gain(LSTM, new, limit * 0.999, "old") > 0.0


def test_published_gains_at_a_loss() -> None:
    """Gains printed by the study, constants in full precision, reducible losses 3.377 and 2.5."""
    lstm, modern = PowerLaw(1.9, 36.32842, 0.0651363), PowerLaw(1.9, 87.96009, 0.0941251)
    retro = PowerLaw(1.9, 81.70841, 0.0911047)
    at = {
        pair: [a.compute(1.9 + r) / b.compute(1.9 + r) for r in (3.377, 2.5)]
        for pair, a, b in (("lstm modern", lstm, modern), ("retro modern", retro, modern), ("lstm retro", lstm, retro))
    }
    assert at["lstm modern"] == pytest.approx([6.28, 26.0], rel=2e-3)
    assert at["retro modern"] == pytest.approx([1.40, 1.56], rel=1e-2)
    assert at["lstm retro"] == pytest.approx([4.48, 16.7], rel=3e-3)


laws = st.builds(PowerLaw, E=st.floats(1.5, 2), a=st.floats(20, 100), alpha=st.floats(0.05, 0.12))
decades = st.floats(14, 22)


@given(laws, laws, decades)
def test_one_number_at_matched_loss(old: PowerLaw, new: PowerLaw, decade: float) -> None:
    """H(C G(C)) = G(C)."""
    flops = 10**decade
    gain = law_gain(old, new, flops)
    assume(0 < flops * gain < 1e100 and old.loss(flops * gain) - max(old.E, new.E) > 1e-3)
    assert law_gain(old, new, flops * gain, "old") == pytest.approx(gain, rel=1e-6)


@given(laws, laws, laws, decades)
def test_gains_compose(a: PowerLaw, b: PowerLaw, c: PowerLaw, decade: float) -> None:
    """G_AC(C) = G_BC(C) G_AB(C G_BC(C)): gains compose and do not multiply at equal compute."""
    flops = 10**decade
    inner = law_gain(b, c, flops)
    assume(math.isfinite(inner) and 1 < flops * inner < 1e100 and c.loss(flops) - max(a.E, b.E) > 1e-3)
    assert law_gain(a, c, flops) == pytest.approx(inner * law_gain(a, b, flops * inner), rel=1e-6)


@given(laws, decades, st.sampled_from(["new", "old"]))
def test_a_law_gains_nothing_over_itself(law: PowerLaw, decade: float, anchor: str) -> None:
    assert law_gain(law, law, 10**decade, anchor) == pytest.approx(1, rel=1e-9)  # type: ignore[arg-type]


@given(laws, laws, decades)
def test_gains_are_never_nan(old: PowerLaw, new: PowerLaw, decade: float) -> None:
    for anchor in ("new", "old"):
        assert law_gain(old, new, 10 ** (2 * decade), anchor) >= 0  # type: ignore[arg-type]


@pytest.fixture
def fitted(study):
    frame = study(budgets=10, decades=3.0)
    fit = fit_frontiers(final_frontier(frame))
    return fit, bootstrap(frame, draws=100, fit=fit)


def test_gain_at_flops_agrees_with_the_laws(fitted) -> None:
    fit, boot = fitted
    for anchor in ("new", "old"):
        gain = gain_at_flops(fit, "lstm", "modern", 3e15, anchor, boot=boot)
        assert gain.gain == pytest.approx(gain.flops_a / gain.flops_b, rel=1e-9)
        assert fit.laws["lstm"].loss(gain.flops_a) == pytest.approx(gain.loss, rel=1e-9)
        assert fit.laws["modern"].loss(gain.flops_b) == pytest.approx(gain.loss, rel=1e-9)
        assert gain.flops == 3e15 == (gain.flops_b if anchor == "new" else gain.flops_a)
        assert gain.anchor == anchor and "100 draws" in gain.method
        assert gain.interval is not None and gain.interval[0] < gain.gain < gain.interval[1]


def test_gain_at_loss_agrees_with_gain_at_flops(fitted) -> None:
    fit, boot = fitted
    at_loss = gain_at_loss(fit, "lstm", "modern", 4.1, boot=boot)
    at_flops = gain_at_flops(fit, "lstm", "modern", at_loss.flops)
    assert at_loss.gain == pytest.approx(at_flops.gain, rel=1e-9)
    assert at_loss.anchor == "loss" and at_loss.interval is not None
    assert at_flops.interval is None and at_flops.method == "no interval"


def test_in_range_needs_both_sides(fitted) -> None:
    fit, _ = fitted
    inside = gain_at_flops(fit, "lstm", "modern", 3e15)
    assert inside.in_range and inside.decades_beyond == 0
    # C lies in the range of both here, but the old one needs 70 times more than it ever had.
    old_leaves = gain_at_flops(fit, "lstm", "modern", 1e17)
    assert not old_leaves.in_range
    assert old_leaves.decades_beyond == pytest.approx(math.log10(old_leaves.flops_a / 1e18), rel=1e-9)
    new_leaves = gain_at_flops(fit, "modern", "lstm", 1e19)
    assert not new_leaves.in_range and new_leaves.decades_beyond >= 1
    assert not inside.far_beyond_data
    assert gain_at_flops(fit, "lstm", "modern", 1e30).far_beyond_data


def test_ends_of_the_range_are_in_range(fitted) -> None:
    fit, _ = fitted
    top = fit.flops_range["lstm"][1]
    assert gain_at_flops(fit, "lstm", "modern", top, "old").in_range
    assert gain_at_loss(fit, "lstm", "modern", fit.laws["lstm"].loss(top)).in_range
    assert not gain_at_flops(fit, "lstm", "modern", top * 1.001, "old").in_range


def test_gain_function_is_the_gain_at_every_compute(fitted) -> None:
    fit, boot = fitted
    grid = np.geomspace(1e15, 1e19, 9)
    for anchor in ("new", "old"):
        curve = gain_function(fit, boot, "lstm", "modern", grid, anchor)
        for i, flops in enumerate(grid):
            one = gain_at_flops(fit, "lstm", "modern", flops, anchor, boot=boot)
            assert curve.gain[i] == pytest.approx(one.gain, rel=1e-12)
            assert (curve.lo[i], curve.hi[i]) == pytest.approx(one.interval, rel=1e-12)
            assert curve.in_range[i] == one.in_range
    bare = gain_function(fit, None, "lstm", "modern", grid)
    assert np.isnan(bare.lo).all() and np.isfinite(bare.gain).all()


def test_intervals_widen_away_from_the_data(fitted) -> None:
    fit, boot = fitted
    curve = gain_function(fit, boot, "retro", "modern", np.array([3e16, 1e23]))
    width = np.log(curve.hi / curve.lo)
    assert width[1] > 3 * width[0]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 100))
def test_a_copy_of_an_architecture_gains_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    flops = np.geomspace(1e15, 1e18, 9)
    loss = (1.9 + 2.0 * (flops / 1e16) ** -0.09) * np.exp(0.003 * rng.standard_normal(9))
    one = pd.DataFrame({"arch": "modern", "flops": flops, "loss": loss})
    frame = pd.concat([one, one.assign(arch="copy")])
    fit = fit_frontiers(final_frontier(frame))
    gain = gain_at_flops(fit, "modern", "copy", 1e17, boot=bootstrap(frame, draws=60, fit=fit))
    assert gain.gain == pytest.approx(1, rel=1e-6)
    assert gain.interval is not None and gain.interval[0] < 1 < gain.interval[1]


def test_unit_of_compute_does_not_matter(study) -> None:
    frame = study()
    scaled = frame.assign(flops=frame["flops"] * 1e-6)
    one, two = (fit_frontiers(final_frontier(table)) for table in (frame, scaled))
    a = gain_at_flops(one, "lstm", "modern", 3e15, boot=bootstrap(frame, draws=30))
    b = gain_at_flops(two, "lstm", "modern", 3e9, boot=bootstrap(scaled, draws=30))
    assert a.gain == pytest.approx(b.gain, rel=1e-6)
    assert a.interval == pytest.approx(b.interval, rel=1e-5)


def test_bad_arguments_are_refused(fitted) -> None:
    fit, _ = fitted
    with pytest.raises(InputError, match="unknown architecture; got 'modrn'; expected one of .*; did you mean modern"):
        gain_at_flops(fit, "lstm", "modrn", 1e16)
    for flops in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="bad flops"):
            gain_at_flops(fit, "lstm", "modern", flops)
    with pytest.raises(InputError, match="unknown anchor"):
        gain_at_flops(fit, "lstm", "modern", 1e16, "middle")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="neither law ever reaches it"):
        gain_at_loss(fit, "lstm", "modern", fit.E * 0.9)
    with pytest.raises(InputError, match="bad loss"):
        gain_at_loss(fit, "lstm", "modern", -1.0)
    with pytest.raises(InputError, match="bad flops_grid"):
        gain_function(fit, None, "lstm", "modern", np.array([1e16, 0.0]))


def test_architecture_without_a_law_is_named(study) -> None:
    frame = study()
    fit = fit_frontiers(final_frontier(frame[(frame["arch"] != "retro") | (frame["flops"] < 2e15)].iloc[:21]))
    assert fit.left_out == ("retro",)
    with pytest.raises(InputError, match="no law for retro"):
        gain_at_flops(fit, "retro", "modern", 1e16)
