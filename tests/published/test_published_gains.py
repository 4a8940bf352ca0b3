"""Published and derived numbers about gains between laws: Gundlach et al. 2025, Hoffmann et al. 2022, Kaplan et al. 2020,
Besiroglu et al. 2024, Porian et al. 2024. All but the last test are arithmetic and need no table.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from algoprog.scaling import PowerLaw, Status, fit_frontiers, law_gain
from algoprog.scaling.allocation import AllocationGain, Policy, RoundedFactor, bookkeeping_slope
from algoprog.scaling.composition import invariant_map, law_map
from algoprog.scaling.gain_theory import infinite_beyond, parity, peak, planned_factor, zero_beyond
from algoprog.scaling.growth import ComputeTrend, GrowthRate, gain_growth, mean_growth
from algoprog.scaling.surface.law import Surface

REFERENCE = Path(__file__).parents[2] / ".." / "shared" / "reference"
OPTIMA, EXPONENTS = REFERENCE / "porian_optima.csv", REFERENCE / "porian_exponents.csv"

LSTM, TRANSFORMER, MODERN = PowerLaw(1.9, 36.3, 0.065), PowerLaw(1.9, 81.7, 0.091), PowerLaw(1.9, 88.0, 0.094)
FULL = {
    "lstm": PowerLaw(1.9, 36.32842, 0.0651363),
    "modern": PowerLaw(1.9, 87.96009, 0.0941251),
    "retro": PowerLaw(1.9, 81.70841, 0.0911047),
}
TREND = ComputeTrend(1e16, 2013, 4.1)
HOFFMANN = Surface(1.69, 406.4, 410.7, 0.34, 0.28)
BESIROGLU = Surface(1.82, 482.01, 2085.43, 0.3478, 0.3658)
KAPLAN = Policy.through(1.3e9, 8.64e19, 0.73)


def with_e(law: PowerLaw, e: float) -> PowerLaw:
    return PowerLaw(e, law.a, law.alpha)


def printed(*values: float, digits: int) -> list[str]:
    """As printed with so many significant digits."""
    return [f"{value:.{digits}g}" for value in values]


def test_closed_forms_at_unequal_irreducible_losses() -> None:
    found = peak(LSTM, with_e(TRANSFORMER, 1.95))
    assert found is not None
    assert found == pytest.approx((8.660e30, 50891), rel=1e-3)
    assert infinite_beyond(LSTM, with_e(TRANSFORMER, 1.85)) == pytest.approx(2.044e35, rel=1e-3)
    assert parity(LSTM, TRANSFORMER) == pytest.approx(3.553e13, rel=1e-3)
    assert zero_beyond(LSTM, with_e(TRANSFORMER, 1.95)) == pytest.approx((36.3 / 0.05) ** (1 / 0.065), rel=1e-9)


@pytest.mark.parametrize(
    ("flops", "factors"),
    [
        (1e17, (1.59, 1.99, 2.70)),
        (1e18, (1.68, 2.68, 4.69)),
        (1.34e22, (2.45, 11.1, 52.7)),
        (1e23, (2.69, 15.0, 88.4)),
    ],
)
def test_planned_factors_of_the_delta_method(flops: float, factors: tuple[float, ...]) -> None:
    """95 % factor of G for SE(alpha) = .001, .003, .005 with ln a known to .01 at 1e16 FLOPs."""
    old, new = (PowerLaw(1.9, law.loss(1e16) - 1.9, law.alpha, 1e16) for law in (LSTM, TRANSFORMER))
    found = [planned_factor(old, new, flops, se_log_a=(0.01, 0.01), se_alpha=(se, se)) for se in (0.001, 0.003, 0.005)]
    assert printed(*found, digits=3) == printed(*factors, digits=3)


def test_growth_depends_on_the_reference_and_the_anchor() -> None:
    laws = {"lstm": LSTM, "transformer": TRANSFORMER, "modern": MODERN}
    rate = gain_growth(law_map("lstm", "modern", laws).slope(1e22), TREND)
    assert printed(rate.log_rate, digits=4) == ["0.6295"] and f"{100 * rate.annual:.1f}" == "87.7"
    faster = gain_growth(law_map("lstm", "modern", laws).slope(1e22), ComputeTrend(1e16, 2013, 4.2))
    assert printed(faster.log_rate, digits=3) == ["0.64"]
    assert law_map("modern", "modern", {"modern": MODERN}).slope(1e22) == pytest.approx(0, abs=1e-12)
    for anchor, slope in (("new", "0.400"), ("old", "0.286")):
        assert f"{law_map('lstm', 'transformer', laws, anchor).slope(1e22):.3f}" == slope  # type: ignore[arg-type]


def test_growth_over_a_span() -> None:
    assert printed(mean_growth(6926.35, 11).factor, mean_growth(21415.66, 12).factor, digits=5) == ["2.2343", "2.2956"]
    published = mean_growth(22000, 11)
    assert printed(published.doubling_months, published.factor, digits=3) == ["9.15", "2.48"]
    eight_months = GrowthRate(1.5 * math.log(2))
    assert printed(eight_months.factor, digits=3) == ["2.83"] and round(eight_months.factor**11) == 92682


def test_an_invariant_gain_of_two_in_lstm_units() -> None:
    plain = law_map("lstm", "transformer", {"lstm": LSTM, "transformer": TRANSFORMER})
    doubled = plain.then(invariant_map("transformer", "moe", 2.0))
    assert printed(doubled.at(1e20) / plain.at(1e20), digits=4) == ["2.639"]


def at_loss(old: PowerLaw, new: PowerLaw) -> list[float]:
    return [old.compute(1.9 + r) / new.compute(1.9 + r) for r in (3.377, 2.5)]


def test_gains_at_two_losses() -> None:
    """Reducible losses 3.377 and 2.5; the published Retro pair mixes full and rounded constants."""
    assert at_loss(FULL["lstm"], FULL["modern"]) == pytest.approx([6.28, 26.0], rel=1e-2)
    assert at_loss(LSTM, MODERN) == pytest.approx([6.37, 26.5], rel=1e-2)
    assert at_loss(FULL["retro"], FULL["modern"]) == pytest.approx([1.40, 1.56], rel=1e-2)
    assert at_loss(FULL["retro"], MODERN) == pytest.approx([1.33, 1.48], rel=1e-2)
    assert at_loss(FULL["lstm"], FULL["retro"]) == pytest.approx([4.48, 16.7], rel=1e-2)


def test_gains_of_the_study_over_compute() -> None:
    at = (1e15, 1e16, 1e17, 1.34e22, 2.26e23)
    assert printed(*(law_gain(LSTM, TRANSFORMER, c) for c in at[:3]), digits=3) == ["3.8", "9.54", "24"]
    assert [round(law_gain(LSTM, TRANSFORMER, c)) for c in at[3:]] == [2695, 8345]
    assert printed(*(law_gain(LSTM, MODERN, c) for c in at[:3]), digits=3) == ["5.97", "16.7", "46.6"]
    assert [round(law_gain(LSTM, MODERN, c)) for c in at[3:]] == [9027, 31840]
    for new, scale, slope in ((TRANSFORMER, "3.79982e-06", 0.4), (MODERN, "1.21184e-06", 0.446154)):
        assert f"{law_gain(LSTM, new, 1.0):.5e}" == scale
        assert new.alpha / LSTM.alpha - 1 == pytest.approx(slope, abs=1e-6)


ALLOCATION = [  # C, old- and new-anchored (Hoffmann), the same (Besiroglu), D/N of Kaplan's policy
    (1e18, "1.073 1.067 1.083 1.077 66.3"),
    (1e20, "1.218 1.257 1.104 1.114 7.97"),
    (1e21, "1.846 2.240 1.449 1.556 2.76"),
    (1.34e22, "3.711 7.187 2.381 3.134 0.837"),
    (1e23, "7.285 26.10 3.940 6.958 0.332"),
    (2.26e23, "9.838 48.02 4.959 10.24 0.228"),
]


@pytest.mark.parametrize(("flops", "row"), ALLOCATION)
def test_kaplan_against_the_optimum(flops: float, row: str) -> None:
    a, b = AllocationGain(HOFFMANN, KAPLAN), AllocationGain(BESIROGLU, KAPLAN)
    found = [f"{value:#.4g}" for value in (a.old(flops), a.new(flops), b.old(flops), b.new(flops))]
    assert " ".join([*found, f"{a.tokens_per_param(flops):#.3g}"]) == row


def test_constants_of_kaplan_and_of_the_optimum() -> None:
    assert f"{KAPLAN.k:.10e}" == "3.6331917579e-06"
    assert f"{HOFFMANN.G0:.5f} {HOFFMANN.a_N:.4f} {HOFFMANN.b_D:.4f}" == "1.34471 0.4516 0.5484"
    assert f"{HOFFMANN.gamma:.6f} {HOFFMANN.K:.3f}" == "0.153548 1071.365"
    one, two = AllocationGain(HOFFMANN, KAPLAN), AllocationGain(BESIROGLU, KAPLAN)
    assert printed(one.break_even or 0, two.break_even or 0, digits=4) == ["5.493e+18", "8.834e+18"]
    assert printed(one.old(1e17), two.old(1e17), digits=4) == ["1.472", "1.391"]
    assert printed(one.asymptotic_slope, two.asymptotic_slope, digits=4) == ["0.5076", "0.446"]
    pivoted = [AllocationGain(HOFFMANN, KAPLAN.pivoted(p, 1e20)).old(1e23) for p in (0.71, 0.75)]
    assert printed(*pivoted, digits=3) == ["6.11", "8.73"]


def test_the_factor_as_the_study_rounded_it() -> None:
    rounded = RoundedFactor(1.85e-20, ((28737.9, 0.2482), (20.337, 0.0756)), 6.512)
    grid = np.log([10.0**d for d in range(16, 25)])
    found = [f"{value:.3g}" for value in np.exp(rounded.log_old(grid))]
    assert found == ["2.57", "1.47", "1.07", "1.01", "1.22", "1.85", "3.4", "7.29", "17.6"]
    around = np.log(np.geomspace(5e18, 6e18, 201))
    low = int(np.argmin(rounded.log_old(around)))
    assert f"{math.exp(rounded.log_old(around)[low]):.4f} {math.exp(around[low]):.1e}" == "0.9997 5.5e+18"
    rates = [float(rounded.slope_old(TREND.log_flops(year))) * TREND.log_rate for year in (2022, 2023, 2025)]
    assert printed(*rates, digits=3) == ["0.376", "0.437", "0.532"]
    assert f"{math.exp(float(rounded.log_old(TREND.log_flops(2023)))):.3f}" == "3.714"


def test_tokens_per_parameter_of_both_policies() -> None:
    kaplan = [AllocationGain(HOFFMANN, KAPLAN).tokens_per_param(10.0**d) for d in range(16, 21)]
    assert [f"{v:.0f}" for v in kaplan[:4]] == ["551", "191", "66", "23"] and f"{kaplan[4]:.1f}" == "8.0"
    optimal = [d / n for n, d in (HOFFMANN.optimal(10.0**d) for d in range(16, 21))]
    assert [f"{v:.0f}" for v in optimal] == ["16", "21", "26", "32", "40"]


def test_part_of_kaplans_exponent_is_bookkeeping() -> None:
    """Exact least-squares slope, .7459 and .7877; a coarse grid in C gives .7458 for the first."""
    assert bookkeeping_slope(HOFFMANN, 47491) == pytest.approx(0.7458, abs=1e-4)
    assert f"{bookkeeping_slope(BESIROGLU, 47491):.4f}" == "0.7877"


@pytest.mark.skipif(not (OPTIMA.is_file() and EXPONENTS.is_file()), reason="reference tables are absent")
def test_published_weighted_fits_that_never_moved() -> None:
    """Nine of fifteen weighted fits in a published table are an optimiser's start: E = 1 or e^.5, A = e^5, alpha = .1.

    On the same points ours moves, and the start is far from an optimum.
    """
    published = pd.read_csv(EXPONENTS)
    start = (published["weighted_loss_alpha"] == 0.1) & np.isclose(published["weighted_loss_A"], math.exp(5), rtol=1e-9)
    assert len(published) == 15 and int(start.sum()) == 9
    points = (
        pd.read_csv(OPTIMA).rename(columns={"setting": "arch", "C": "flops", "loss_opt": "loss"}).dropna(subset="loss")
    )
    for row in published[start].itertuples():
        assert min(abs(row.weighted_loss_E - math.exp(e)) for e in (0.0, 0.5)) < 1e-9
        mine = points[(points["arch"] == row.setting) & points["flops"].between(1e16, 5e17)]
        fit = fit_frontiers(mine[["arch", "flops", "loss"]], loss="squared")
        assert fit.status is not Status.DID_NOT_MOVE
        stuck = PowerLaw(row.weighted_loss_E, row.weighted_loss_A, row.weighted_loss_alpha)
        z = np.log(mine["loss"].to_numpy()) - np.log(stuck.loss(mine["flops"].to_numpy(dtype=float)))
        assert 0.5 * float(z @ z) > 100 * fit.objective
