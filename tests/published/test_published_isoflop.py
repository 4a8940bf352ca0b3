"""Published allocation exponents from isoFLOP slices, from public tables that are not part of this package.

The tables lie beside the repository, in ``../shared/reference``; without them these tests are skipped.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import Akima1DInterpolator

from algoprog.scaling import Slice, fit_allocation, isoflop_slices

REFERENCE = Path(__file__).parents[2] / ".." / "shared" / "reference"
FILES = [REFERENCE / f"porian_{name}.csv" for name in ("isoflop_points", "optima", "exponents")]
pytestmark = pytest.mark.skipif(not all(path.is_file() for path in FILES), reason="reference tables are absent")

IN_FILE_ORDER = (
    0.835, 0.706, 0.602, 0.571, 0.497, 0.717, 0.622, 0.577, 0.505, 0.711, 0.864, 0.699, 0.603, 0.574, 0.518,
)  # fmt: skip


@pytest.fixture(scope="module")
def tables() -> list[pd.DataFrame]:
    return [pd.read_csv(path) for path in FILES]


def akima_slice(points: pd.DataFrame, error: float) -> Slice | None:
    """The published way to find a minimum: Akima through the points, lowest of 4001 values, none at an edge."""
    rows = points.sort_values("N").drop_duplicates("N")
    if len(rows) < 3:
        return None
    x = np.log(rows["N"].to_numpy())
    grid = np.linspace(x[0], x[-1], 4001)
    curve = Akima1DInterpolator(x, np.log(rows["loss"].to_numpy()))(grid)
    best = int(np.argmin(curve))
    if best in (0, 4000):
        return None
    c, n, nan = float(rows["C"].iloc[0]), math.exp(grid[best]), math.nan
    extent = (float(rows["N"].min()), float(rows["N"].max()))
    return Slice(c, len(rows), len(rows), extent, n, c / (6 * n), math.exp(curve[best]), nan, error, None, (), True)


def test_fifteen_published_exponents(tables: list[pd.DataFrame]) -> None:
    """Porian et al. (2024): Akima minima, weights from their errors of ln N*; the line is this package's."""
    points, optima, exponents = tables
    assert len(exponents) == 15
    for (_, row), rounded in zip(exponents.iterrows(), IN_FILE_ORDER, strict=True):
        slices = []
        for _, optimum in optima[(optima["setting"] == row["setting"]) & optima["N_opt"].notna()].iterrows():
            mine = points[(points["setting"] == row["setting"]) & np.isclose(points["C"], optimum["C"])]
            found = akima_slice(mine, float(optimum["log_N_opt_std"]))
            if found is not None:
                slices.append(found)
        allocation = fit_allocation(tuple(slices))
        assert allocation is not None
        assert allocation.a == pytest.approx(row["a_N"], rel=5e-3), row["setting"]
        assert allocation.a == pytest.approx(rounded, abs=3e-3)


@pytest.mark.parametrize("dataset", ["rw", "owt2"])
def test_shape_fit_of_the_tuned_settings_agrees(tables: list[pd.DataFrame], dataset: str) -> None:
    """Our own slices, with the shape of a fitted surface, on the tuned runs: near the published exponents (.50, .52)."""
    points, _, exponents = tables
    setting = f"{dataset}_tuned_short_const_standard_val"
    mine = points[points["setting"] == setting].rename(columns={"N": "params", "D": "tokens", "C": "flops"})
    found = isoflop_slices(mine[["params", "tokens", "flops", "loss"]])
    published = float(exponents.set_index("setting").loc[setting, "a_N"])
    assert found.allocation is not None and len(found.used) >= 8
    assert found.allocation.a == pytest.approx(published, abs=0.04)
