"""Lack of fit of a surface: it is found where it is, and seldom where it is not."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f as f_distribution

from algoprog.scaling import Surface, fit_surface
from algoprog.scaling.surface.lack_of_fit import lack_of_fit

SURFACE = Surface(1.69, 406.4, 410.7, 0.34, 0.28)


def repeated(bend: float = 0.0, seeds: int = 2, noise: float = 0.005, seed: int = 0) -> pd.DataFrame:
    """Three budgets of five sizes; ``bend``: what is added to ln L at the middle size of the middle budget."""
    rng, rows = np.random.default_rng(seed), []
    for budget in (1e16, 1e17, 1e18):
        for k, n in enumerate(SURFACE.optimal(budget)[0] * np.geomspace(0.25, 4, 5)):
            off = bend if budget == 1e17 and k == 2 else 0.0
            for _ in range(seeds):
                loss = SURFACE.loss(n, budget / 6 / n) * math.exp(off + noise * rng.standard_normal())
                rows.append((n, budget / 6 / n, loss))
    return pd.DataFrame(rows, columns=["params", "tokens", "loss"])


def test_the_formula_by_hand() -> None:
    points = repeated(bend=0.05)
    fit = fit_surface(points)
    found = lack_of_fit(fit)
    assert found is not None and fit.surface is not None and (found.cells, found.runs) == (15, 30)
    log_loss = np.log(points["loss"].to_numpy())
    pairs = log_loss.reshape(-1, 2)
    pure = float(((pairs[:, 0] - pairs[:, 1]) ** 2).sum() / 2)
    away = log_loss - np.log(fit.surface.loss(points["params"].to_numpy(), points["tokens"].to_numpy()))
    f = ((float(away @ away) - pure) / 10) / (pure / 15)
    assert found.f == pytest.approx(f) and found.repeats == pytest.approx(math.sqrt(pure / 15))
    assert found.p == pytest.approx(f_distribution.sf(f, 10, 15))
    means = away.reshape(-1, 2).mean(axis=1)
    assert found.misses == pytest.approx(math.sqrt(float(means @ means) / 15))


def test_a_bent_surface_is_rejected_and_a_straight_one_seldom() -> None:
    straight = [lack_of_fit(fit_surface(repeated(seed=s))) for s in range(40)]
    p = np.array([one.p for one in straight if one is not None])
    assert p.size == 40 and np.mean(p < 0.05) <= 0.2 and 0.25 < float(np.median(p)) < 0.75
    bent = lack_of_fit(fit_surface(repeated(bend=0.05)))
    assert bent is not None and bent.p < 1e-4


@pytest.mark.parametrize("points", [repeated(seeds=1), repeated(noise=0.0), repeated().iloc[:4], repeated().iloc[:10]])
def test_without_repeats_or_freedom_there_is_no_test(points: pd.DataFrame) -> None:
    assert lack_of_fit(fit_surface(points)) is None
