"""Printed numbers of break tests and of sequential extrapolation.

The public tables lie beside the repository, in ``../shared/reference``; without them those tests are skipped. The rest is
arithmetic and simulation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f as f_table

from algoprog.scaling.breakpoints.breaks import break_test
from algoprog.scaling.breakpoints.chow import chow_f
from algoprog.scaling.breakpoints.extrapolation import CutVerdict, extrapolate
from algoprog.scaling.breakpoints.licensing import LicenceStatus, earned, licence
from algoprog.scaling.laws import PowerLaw
from algoprog.scaling.planning.information import detectable_break

OPTIMA = Path(__file__).parents[2] / ".." / "shared" / "reference" / "porian_optima.csv"
needs_tables = pytest.mark.skipif(not OPTIMA.is_file(), reason="reference tables are absent")

RW, OWT2 = "rw_tuned_short_const_standard_val", "owt2_tuned_short_const_standard_val"
UNTUNED = "rw_base_short_chinchilla_standard_val"

CUTS = (1e17, 2e17, 5e17, 1e18, 3e18)  # 4, 5, 6, 7, 8 points
SEQUENTIAL = {
    RW: (
        (0.469, 0.064, 0.0385, 0.512, 0), (1.942, 0.103, 0.0106, 0.087, 0), (2.006, 0.106, 0.0136, 0.029, 0),
        (1.795, 0.097, 0.0050, 0.016, 0), (1.689, 0.092, 0.0015, 0.009, 0),
    ),
    OWT2: (
        (1.384, 0.104, 0.0144, 0.082, 0), (2.036, 0.137, 0.0299, 0.068, 0), (2.075, 0.140, 0.0329, 0.023, 4),
        (1.850, 0.124, 0.0177, 0.020, 0), (1.752, 0.119, 0.0123, 0.012, 1),
    ),
    UNTUNED: (
        (2.453, 0.242, 0.0406, 4.0, 0), (2.966, 0.312, 0.0642, 0.369, 0), (3.082, 0.336, 0.0864, 0.121, 0),
        (3.019, 0.321, 0.0746, 0.063, 2), (2.921, 0.299, 0.0580, 0.043, 2),
    ),
}  # fmt: skip


def optima(setting: str) -> pd.DataFrame:
    table = pd.read_csv(OPTIMA).rename(columns={"setting": "arch", "C": "flops", "loss_opt": "loss"})
    return table[table["arch"] == setting].dropna(subset=["loss"])[["arch", "flops", "loss"]]


@needs_tables
@pytest.mark.parametrize("setting", SEQUENTIAL)
def test_sequential_extrapolation(setting: str) -> None:
    """E, alpha, the largest error beyond the cut and the half-width at 2.56e19 to 3 % (or the last printed digit); flags."""
    cuts = extrapolate(optima(setting), draws=19).cuts
    for n, (e, alpha, error, half_width, flags) in enumerate(SEQUENTIAL[setting], start=4):
        cut = next(cut for cut in cuts if cut.n == n)
        assert cut.flops <= CUTS[n - 4] * 1.001 < cut.later_flops[0]
        assert pytest.approx(e, rel=0.03) == cut.E and cut.alpha == pytest.approx(alpha, rel=0.03)
        assert np.abs(cut.error).max() == pytest.approx(error, rel=0.03)
        assert cut.later_flops[-1] == pytest.approx(2.56e19, rel=1e-6)
        assert cut.half_width[-1] == pytest.approx(half_width, rel=0.03, abs=5e-4)
        assert cut.flagged.sum() == flags


@needs_tables
def test_the_tuned_law_is_licensed_for_a_decade_and_a_half() -> None:
    """Cut 1e18: fitted 1.8 decades, span 1.5: licence 1.5. From 2.56e19 no test licenses 1e23."""
    found = extrapolate(optima(RW), draws=199)
    best = earned(found)
    assert best is not None and best.n == 7 and best.verdict is CutVerdict.PASSED
    assert best.fitted_decades == pytest.approx(1.806, abs=1e-3) and best.span_decades == pytest.approx(1.505, abs=1e-3)
    assert best.licence_decades == pytest.approx(1.505, abs=1e-3)
    assert licence(found, 1e20).status is LicenceStatus.LICENSED
    assert licence(found, 1e23).status is LicenceStatus.UNLICENSED


@needs_tables
def test_settings_whose_predictions_drift_are_not_licensed() -> None:
    for setting in (OWT2, UNTUNED):
        assert earned(extrapolate(optima(setting), draws=199)) is None


@needs_tables
def test_the_tuned_frontier_is_one_law_but_no_pure_power_law() -> None:
    found = break_test(optima(RW), draws=199).evidence
    assert found is not None and found.p_value > 0.5 and not found.claimed
    assert pytest.approx(1.633, rel=0.01) == found.one.E and found.sigma == pytest.approx(7.5e-4, rel=0.02)
    assert found.models[0].bic - found.models[1].bic > 40


@pytest.mark.parametrize(
    ("e", "rates"), [(0.0, (0.06, 0.04, 0.06)), (1.0, (1.00, 0.95, 0.38)), (1.9, (1.00, 0.99, 0.52))]
)
def test_log_log_chow_test_rejects_one_law_with_irreducible_loss(e: float, rates: tuple[float, ...]) -> None:
    """16 points on 1e15-1e18 from one law, split 8/8: rejections at 5 % for sigma .001, .003, .006.

    Printed from 300 draws, 4000 here: to .03, or to the 99 % Monte-Carlo error of 300 draws where that is wider.
    """
    x = np.linspace(0, 3 * np.log(10), 16)
    truth = np.log(e + (4.3 - e) * np.exp(-0.09 * x))
    rng = np.random.default_rng(0)
    for sigma, printed in zip((0.001, 0.003, 0.006), rates, strict=True):
        y = truth + sigma * rng.standard_normal((4000, 16))
        rate = (chow_f(x, y, [8])[:, 0] > f_table(2, 12).ppf(0.95)).mean()
        assert abs(rate - printed) <= max(0.03, 2.58 * np.sqrt(rate * (1 - rate) / 300))


def test_the_table_of_f_rejects_a_quarter_once_the_split_is_chosen_by_looking() -> None:
    """Two free lines, n = 16, splits 4-12: 5 % point 7.2 against F(2, 12) = 3.89, which rejects 25 %."""
    y = np.random.default_rng(0).standard_normal((20_000, 16))
    largest = chow_f(np.arange(16.0), y, range(4, 13)).max(axis=1)
    table = f_table(2, 12).ppf(0.95)
    assert table == pytest.approx(3.89, abs=0.005)
    assert np.quantile(largest, 0.95) == pytest.approx(7.2, abs=0.3)
    assert (largest > table).mean() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(("decades", "known", "free"), [(2, 0.0107, 0.0440), (3, 0.0072, 0.0293), (4, 0.0054, 0.0219)])
def test_smallest_detectable_change(decades: int, known: float, free: float) -> None:
    """E 1.9, r 2.4 at the centre, alpha .08, sigma .003, 16 points, break in the middle; to the last digit."""
    middle = 10 ** (15 + decades / 2)
    found = detectable_break(
        PowerLaw(1.9, 2.4, 0.08, middle), np.geomspace(1e15, 10 ** (15 + decades), 16), middle, 0.003
    )
    assert (round(found.known, 4), round(found.free, 4)) == (known, free)
