"""Predictions from every cut: their half-widths cover, flags and passes follow their rules, and licences stay modest."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import curve_fit
from scipy.stats import t as student

from algoprog.scaling.breakpoints.cuts import cut_sizes, walk_cuts
from algoprog.scaling.breakpoints.extrapolation import CutVerdict, Extrapolation, extrapolate
from algoprog.scaling.breakpoints.licensing import LicenceStatus, contradicted, earned, gain_licences, licence
from algoprog.scaling.breakpoints.two_piece import TwoPieceLaw
from algoprog.scaling.breakpoints.words import extrapolation_sentence
from algoprog.scaling.ceg import gain_at_flops
from algoprog.scaling.errors import InputError
from algoprog.scaling.fit import fit_frontiers
from algoprog.scaling.laws import PowerLaw

LAW = PowerLaw(1.9, 2.4, 0.08, 10**16.5)


def frame(
    points: int = 14, decades: float = 3.0, sigma: float = 0.002, seed: int = 0, law: PowerLaw | TwoPieceLaw = LAW
) -> pd.DataFrame:
    flops = np.geomspace(1e15, 10 ** (15 + decades), points)
    noise = sigma * np.random.default_rng(seed).standard_normal(points)
    return pd.DataFrame({"arch": "modern", "flops": flops, "loss": law.loss(flops) * np.exp(noise)})


def test_half_widths_and_errors_against_curve_fit() -> None:
    """The prediction interval of a general-purpose fitter: covariance from its own Jacobian."""
    table = frame()
    x, y = np.log(table["flops"].to_numpy()), np.log(table["loss"].to_numpy())
    cut = next(cut for cut in extrapolate(table, draws=19).cuts if cut.n == 9)

    def model(z: np.ndarray, rho: float, alpha: float, e: float) -> np.ndarray:
        return np.log(e + np.exp(rho - alpha * z))

    z = x - x[:9].mean()
    best, covariance = curve_fit(model, z[:9], y[:9], p0=[0.9, 0.08, 1.9], xtol=1e-14, ftol=1e-14, gtol=1e-14)
    assert pytest.approx(best[2], rel=1e-5) == cut.E and cut.alpha == pytest.approx(best[1], rel=1e-5)
    assert cut.error == pytest.approx(y[9:] - model(z[9:], *best), abs=1e-7)
    rss = float(np.sum((y[:9] - model(z[:9], *best)) ** 2))
    for i, later in enumerate(z[9:]):
        step = 1e-6
        gradient = [
            (model(later, *(best + step * unit)) - model(later, *(best - step * unit))) / (2 * step)
            for unit in np.eye(3)
        ]
        variance = rss / 6 + np.array(gradient) @ covariance @ np.array(gradient)
        assert cut.half_width[i] == pytest.approx(student(6).ppf(0.975) * math.sqrt(variance), rel=1e-3)


def test_nominal_half_widths_cover_where_the_law_is_known_well() -> None:
    """One-step predictions from 12 of 14 points over four decades: 95 % of 600 studies, to three standard errors."""
    x = np.log(frame(14, 4.0)["flops"].to_numpy())
    truth = np.log(np.asarray(LAW.loss(np.exp(x))))
    y = truth + 0.002 * np.random.default_rng(0).standard_normal((600, 14))
    walk = walk_cuts(x, y, [12], 0.02)
    assert 0.923 <= (~walk.flagged[0, :, 12]).mean() <= 0.977


def test_cusum_steps_are_standard_and_independent_under_the_law() -> None:
    x = np.log(frame(16, 4.0)["flops"].to_numpy())
    y = np.log(np.asarray(LAW.loss(np.exp(x)))) + 0.002 * np.random.default_rng(1).standard_normal((300, 16))
    step = walk_cuts(x, y, cut_sizes(x), 0.02).step[:, 4:]
    assert step.std(axis=0) == pytest.approx(np.ones(step.shape[1]), abs=0.16)
    correlation = np.corrcoef(step.T) - np.eye(step.shape[1])
    assert np.abs(correlation).max() < 0.25


def test_limits_made_from_a_fitted_law_hold_for_the_true_one() -> None:
    """One in twenty of 400 studies of the true law leaves the limit; the bound is five standard errors wide."""
    table = frame(10, 3.0, seed=2)
    found = extrapolate(table, draws=999)
    x = np.log(table["flops"].to_numpy())
    y = np.log(np.asarray(LAW.loss(np.exp(x)))) + 0.002 * np.random.default_rng(5).standard_normal((400, 10))
    paths = np.cumsum(walk_cuts(x, y, cut_sizes(x), 0.02).step, axis=1)
    assert found.cusum is not None
    assert 0.01 < (np.abs(paths).max(axis=1) > found.cusum.limit).mean() < 0.11


def test_a_law_that_bends_fails() -> None:
    bent = frame(16, 4.0, 0.001, law=TwoPieceLaw(1.9, 2.4, 0.06, 0.14, 1e17))
    found = extrapolate(bent, draws=199)
    assert contradicted(found) and earned(found) is None and len(found.failed) >= 3
    assert licence(found, 1e20).status is LicenceStatus.FAILED and "unlicensed" in licence(found, 1e20).sentence
    assert licence(found, 1e16).status is LicenceStatus.IN_RANGE
    assert found.cusum is not None and found.cusum.crossed and found.flags_p <= 0.05 and found.flags > 10


def test_a_good_law_is_licensed_for_what_it_has_predicted_and_no_further() -> None:
    found = extrapolate(frame(16, 4.0, 0.001, seed=3), draws=199)
    best = earned(found)
    assert best is not None and 0.5 < best.licence_decades <= 4.0
    for cut in found.cuts:
        assert cut.licence_decades <= best.licence_decades
        assert cut.licence_decades in (0.0, min(cut.span_decades, cut.fitted_decades))
    high = found.flops_range[1]
    inside, outside = (licence(found, high * 10 ** (best.licence_decades + step)) for step in (-0.01, 0.01))
    assert inside.status is LicenceStatus.LICENSED and inside.allowed
    assert outside.status is LicenceStatus.UNLICENSED and not outside.allowed and outside.beyond > outside.decades
    assert f"{best.licence_decades:.2f} decades" in outside.sentence
    assert licence(found, 1e14).status is LicenceStatus.UNLICENSED and "upwards only" in licence(found, 1e14).sentence


def test_four_points_never_count_and_wide_predictions_are_no_pass() -> None:
    found = extrapolate(frame(8, 1.0, 0.003), draws=49)
    assert found.cuts[0].n == 4 and found.cuts[0].verdict is not CutVerdict.PASSED
    tight = extrapolate(frame(8, 1.0, 0.003), tolerance=1e-5, draws=49)
    assert earned(tight) is None and all(cut.verdict is not CutVerdict.PASSED for cut in tight.cuts)
    assert "no cut of 5 points or more" in extrapolation_sentence(tight) or contradicted(tight)


def test_counted_predictions_are_the_nearest_ones_without_a_gap() -> None:
    found = extrapolate(frame(12, 3.0, 0.003), draws=19)
    for cut in found.cuts:
        sharp = cut.half_width < found.tolerance
        stop = int(np.argmin(sharp)) if not sharp.all() else sharp.size
        if cut.n >= 5:
            assert list(cut.counted) == [i < stop for i in range(sharp.size)]
        assert (cut.verdict is CutVerdict.FAILED) == bool((np.abs(cut.error) > cut.half_width).any())


def test_cuts_do_not_divide_equal_budgets_and_need_four() -> None:
    assert cut_sizes(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 4.0, 5.0])) == [4, 6]
    assert cut_sizes(np.array([0.0, 0.0, 0.0, 0.0, 1.0, 2.0])) == []
    assert cut_sizes(np.arange(4.0)) == []


def test_few_points_give_an_empty_test_and_no_licence() -> None:
    found = extrapolate(frame(4))
    assert found.cuts == () and found.cusum is None and "4 points" in extrapolation_sentence(found)
    assert licence(found, 1e19).status is LicenceStatus.UNLICENSED and licence(found, 1e16).allowed


def test_exact_points_do_not_divide_by_nothing() -> None:
    found = extrapolate(frame(10, sigma=0.0), draws=19)
    for cut in found.cuts:
        assert not np.isnan(cut.half_width).any() and np.abs(cut.error).max() < 1e-6
    assert found.cusum is not None and np.isfinite(found.cusum.value).all()


def both(first: Extrapolation, second: Extrapolation) -> dict[str, Extrapolation]:
    return {"lstm": first, "modern": second}


def test_licences_of_a_gain_are_those_of_both_computes() -> None:
    old = frame(12, 3.0, 0.001, law=PowerLaw(1.9, 2.6, 0.065, 10**16.5)).assign(arch="lstm")
    new = frame(12, 3.0, 0.001, seed=1)
    fit = fit_frontiers(pd.concat([old, new], ignore_index=True))
    tests = both(extrapolate(old, draws=49), extrapolate(new, draws=49))
    near, far = gain_at_flops(fit, "lstm", "modern", 1e16), gain_at_flops(fit, "lstm", "modern", 1e23)
    assert near.in_range and all(part.allowed for part in gain_licences(near, tests))
    parts = gain_licences(far, tests)
    assert not parts[0].allowed and not parts[1].allowed and parts[0].target_flops == far.flops_a
    with pytest.raises(InputError, match="lstm"):
        gain_licences(far, {"modern": tests["modern"]})


def test_a_compute_that_is_never_reached_is_unlicensed() -> None:
    found = extrapolate(frame(10), draws=19)
    assert licence(found, math.inf).status is LicenceStatus.UNLICENSED and licence(found, 0.0).beyond == math.inf
    with pytest.raises(InputError, match="target"):
        licence(found, math.nan)


def test_seed_and_order_of_rows() -> None:
    table = frame(9)
    first, again = extrapolate(table, draws=49), extrapolate(table.sample(frac=1.0, random_state=1), draws=49)
    assert first.cusum is not None and again.cusum is not None
    assert first.cusum.limit == again.cusum.limit and first.flags_p == again.flags_p
    other = extrapolate(table, draws=49, seed=1)
    assert other.cusum is not None and first.cusum.limit != other.cusum.limit


@pytest.mark.parametrize("tolerance", [0.0, -1.0, math.nan, math.inf])
def test_a_bad_tolerance_is_refused(tolerance: float) -> None:
    with pytest.raises(InputError, match="tolerance"):
        extrapolate(frame(), tolerance)
