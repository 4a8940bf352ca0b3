"""A published smoothly broken power law, from a public table that is not part of this package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from algoprog.scaling import Status, fit_broken

TABLE = Path(__file__).parents[2] / ".." / "shared" / "reference" / "bnsl_4digit_addition_17.csv"
pytestmark = pytest.mark.skipif(not TABLE.is_file(), reason="reference tables are absent")


def test_four_digit_addition() -> None:
    """``a + b x^-c0 (1 + (x/d1)^(1/f1))^(-c1 f1)`` on the first 14 points, and three held-out ones."""
    table = pd.read_csv(TABLE)
    fitted, held_out = table[table["used_for_fit"]], table[~table["used_for_fit"]]
    fit = fit_broken(fitted["D"].to_numpy(float), fitted["loss"].to_numpy())
    law = fit.law
    assert law is not None and fit.status is Status.CONVERGED and fit.agreeing >= 2 and fit.n == 14
    found = (law.E, law.a * law.C0**law.alpha, law.alpha, law.c, law.d, law.f)
    assert found == pytest.approx((0.4172, 2.2737, 0.05515, 5.694, 612.8, 0.0593), rel=0.01)
    assert fit.rms == pytest.approx(6e-4, abs=2e-4)
    errors = np.log(law.loss(held_out["D"].to_numpy(float)) / held_out["loss"].to_numpy())
    assert len(errors) == 3 and np.sqrt(np.mean(errors**2)) == pytest.approx(0.0111, abs=1e-3)
