"""Published one-dimensional loss laws, from public tables that are not part of this package.

The tables lie beside the repository, in ``../shared/reference``; without them these tests are skipped.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from algoprog.scaling import Status, fit_frontiers

REFERENCE = Path(__file__).parents[2] / ".." / "shared" / "reference"
OPTIMA, EXPONENTS = REFERENCE / "porian_optima.csv", REFERENCE / "porian_exponents.csv"
pytestmark = pytest.mark.skipif(not (OPTIMA.is_file() and EXPONENTS.is_file()), reason="reference tables are absent")

RW, OWT2 = "rw_tuned_short_const_standard_val", "owt2_tuned_short_const_standard_val"
UNTUNED = "rw_base_short_chinchilla_standard_val"


@pytest.fixture(scope="module")
def optima() -> pd.DataFrame:
    table = pd.read_csv(OPTIMA).rename(columns={"setting": "arch", "C": "flops", "loss_opt": "loss"})
    return table.dropna(subset=["loss"])[["arch", "flops", "loss"]]


def cut(optima: pd.DataFrame, setting: str, low: float, high: float) -> pd.DataFrame:
    return optima[(optima["arch"] == setting) & optima["flops"].between(low, high)]


def test_fifteen_published_fits_of_e_and_alpha(optima: pd.DataFrame) -> None:
    """Least squares on ln L reproduces ``basic_loss_*`` in the window 1e16 < C < 5e17 (4 to 6 points each).

    Least squares on L itself does not (E off by up to .2), so this also pins the objective.
    """
    published = pd.read_csv(EXPONENTS).set_index("setting")
    assert len(published) == 15
    for setting, row in published.iterrows():
        fit = fit_frontiers(cut(optima, str(setting), 1e16, 5e17), loss="squared")
        assert pytest.approx(row["basic_loss_E"], abs=0.01) == fit.E, setting
        assert fit.laws[str(setting)].alpha == pytest.approx(row["basic_loss_alpha"], rel=2e-3), setting


@pytest.mark.parametrize(
    ("setting", "e", "alpha", "rms"), [(RW, 1.633, 0.0901, 6.5e-4), (OWT2, 1.471, 0.1037, 1.21e-3)]
)
@pytest.mark.parametrize("loss", ["squared", "auto"])
def test_tuned_settings_over_twelve_budgets(
    optima: pd.DataFrame, setting: str, e: float, alpha: float, rms: float, loss: str
) -> None:
    """Squares give the published digits; the default (Huber at 12 points) stays within the same 1 % in E and alpha."""
    points = cut(optima, setting, 0, 1e21)
    fit = fit_frontiers(points, loss=loss)  # type: ignore[arg-type]
    assert len(points) == 12 and fit.status is Status.CONVERGED
    assert fit.loss == ("squared" if loss == "squared" else "huber")
    assert pytest.approx(e, rel=0.01) == fit.E
    assert fit.laws[setting].alpha == pytest.approx(alpha, rel=0.01)
    if loss == "squared":
        assert (2 * fit.objective / 12) ** 0.5 == pytest.approx(rms, rel=0.01)
        assert fit.sigma == pytest.approx(rms * (12 / 9) ** 0.5, rel=0.01)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            RW,
            {
                1e17: (0.469, 0.064),
                2e17: (1.942, 0.103),
                5e17: (2.006, 0.106),
                1e18: (1.795, 0.097),
                3e18: (1.689, 0.092),
            },
        ),
        (
            OWT2,
            {
                1e17: (1.384, 0.104),
                2e17: (2.036, 0.137),
                5e17: (2.075, 0.140),
                1e18: (1.850, 0.124),
                3e18: (1.752, 0.119),
            },
        ),
        (
            UNTUNED,
            {
                1e17: (2.453, 0.242),
                2e17: (2.966, 0.312),
                5e17: (3.082, 0.336),
                1e18: (3.019, 0.321),
                3e18: (2.921, 0.299),
            },
        ),
    ],
)
def test_estimates_drift_as_the_upper_cut_rises(
    optima: pd.DataFrame, setting: str, expected: dict[float, tuple[float, float]]
) -> None:
    """Sequential extrapolation on the published optima: E and alpha, to 3 %."""
    for high, (e, alpha) in expected.items():
        fit = fit_frontiers(cut(optima, setting, 0, high * 1.001), loss="squared")
        assert pytest.approx(e, rel=0.03, abs=2e-3) == fit.E, high
        assert fit.laws[setting].alpha == pytest.approx(alpha, rel=0.03, abs=6e-4), high


def test_profile_of_e_is_wide_on_a_single_frontier(optima: pd.DataFrame) -> None:
    """Twelve tuned budgets over 3.3 decades still leave E to about 5 % of itself."""
    fit = fit_frontiers(cut(optima, RW, 0, 1e21), "profile", loss="squared")
    assert fit.E_interval is not None
    low, high = fit.E_interval
    assert low < 1.633 < high and 0.1 < high - low < 0.3
