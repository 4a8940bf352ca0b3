"""IsoFLOP slices: the bias of the parabola, the shape fit, bracketing checks, the allocation and its intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoprog.scaling import InputError, Isoflop, Surface, bootstrap_isoflop, fit_allocation, isoflop_slices
from algoprog.scaling.isoflop.bias import (
    parabola_shift,
    shift_of_equal_steps,
    shift_of_symmetric_design,
    shift_off_centre,
    vertex_standard_error,
)
from algoprog.scaling.isoflop.vertex import find_vertices

HOFFMANN = Surface(1.69, 406.4, 410.7, 0.34, 0.28)
LOPSIDED = Surface(1.69, 406.4, 410.7, 0.465, 0.155)
EVEN = Surface(1.69, 400.0, 400.0, 0.31, 0.31)
BUDGETS = 10.0 ** np.arange(17, 22)
FACTORS = (2, 4, 8, 16)


def centred(_: int) -> float:
    return 1.0


def design(
    surface: Surface, factor: float, n: int = 15, centre: Callable[[int], float] = centred, sigma: float = 0.0
) -> pd.DataFrame:
    """``n`` points a budget, equally spaced in ln D on ±``factor`` about ``centre`` times the true D*."""
    rng, rows = np.random.default_rng(5), []
    for i, flops in enumerate(BUDGETS):
        _, best = surface.optimal(flops)
        for d in np.geomspace(best * centre(i) / factor, best * centre(i) * factor, n):
            rows.append((flops / 6 / d, d, flops, surface.loss(flops / 6 / d, d) + sigma * rng.standard_normal()))
    return pd.DataFrame(rows, columns=["params", "tokens", "flops", "loss"])


def plain_line(found: Isoflop):
    """The allocation through all vertices with equal weights, as in the published exercise."""
    allocation = fit_allocation(tuple(replace(s, used=True, standard_error=math.nan) for s in found.slices))
    assert allocation is not None
    return allocation


@pytest.mark.parametrize(
    ("surface", "centre", "expected"),
    [
        (HOFFMANN, centred, (-0.33, -1.30, -2.90, -5.10)),
        (LOPSIDED, centred, (-1.67, -6.50, -13.91, -23.12)),
        (EVEN, centred, (0, 0, 0, 0)),
        (EVEN, lambda i: 3.0, (3.97, 3.47, 2.65, 1.51)),
        (EVEN, lambda i: 3.0 ** (i / 4), (6.07, 5.17, 3.70, 1.69)),
    ],
    ids=["even-ish", "lopsided", "symmetric", "off centre", "drifting"],
)
def test_error_of_the_parabola_far_beyond_the_budgets(
    surface: Surface, centre: Callable[[int], float], expected: tuple[float, ...]
) -> None:
    """Percent error of D*(1e24) from noise-free budgets 1e17 to 1e21, windows of ±2x, 4x, 8x, 16x."""
    for factor, percent in zip(FACTORS, expected, strict=True):
        found = isoflop_slices(design(surface, factor, centre=centre), "parabola", surface=surface)
        error = plain_line(found).optimal(1e24)[1] / surface.optimal(1e24)[1] - 1
        assert 100 * error == pytest.approx(percent, abs=0.0055)


def test_slope_and_intercept_of_the_widest_window() -> None:
    line = plain_line(isoflop_slices(design(HOFFMANN, 16), "parabola", surface=HOFFMANN))
    assert 1 - line.a == pytest.approx(0.548387, abs=1e-6)
    assert math.log10(1 / 6) - line.log_coefficient / math.log(10) == pytest.approx(-0.578092, abs=1e-6)


@pytest.mark.parametrize("surface", [HOFFMANN, LOPSIDED, EVEN])
def test_shape_fit_has_no_bias(surface: Surface) -> None:
    """Also with a window that drifts, and with the shape estimated from the same points."""
    found = isoflop_slices(design(surface, 8, centre=lambda i: 2.0 ** (i / 4)))
    assert found.allocation is not None and found.surface is not None
    assert found.allocation.a == pytest.approx(surface.a_N, rel=1e-6)
    for one in found.slices:
        n, d = surface.optimal(one.flops)
        assert (one.params, one.tokens, one.loss) == pytest.approx((n, d, surface.loss(n, d)), rel=1e-6)
        assert one.curvature == pytest.approx(surface.curvature(one.flops), rel=1e-5)
        assert one.params * one.tokens == pytest.approx(one.flops / 6, rel=1e-12)
        assert one.shift is None and one.used


def test_exact_projection_explains_the_parabola() -> None:
    found = isoflop_slices(design(LOPSIDED, 16), "parabola", surface=LOPSIDED)
    for one in found.slices:
        assert one.shift is not None
        assert math.log(one.params) - one.shift == pytest.approx(math.log(LOPSIDED.optimal(one.flops)[0]), abs=1e-9)


def test_closed_forms_of_the_shift() -> None:
    """Fifteen points: to .1 % for .34/.28 up to ±16x, 3 % for .465/.155 at ±16x, 5 % off centre by ln 3."""
    for factor in FACTORS:
        h = math.log(factor)
        offsets = h * np.linspace(-1, 1, 15)
        exact = parabola_shift(0.34, 0.28, offsets)
        assert shift_of_equal_steps(0.34, 0.28, h, 15) == pytest.approx(exact, rel=1.1e-3)
        assert shift_of_symmetric_design(0.34, 0.28, offsets) == pytest.approx(shift_of_equal_steps(0.34, 0.28, h, 15))
        off = parabola_shift(0.31, 0.31, offsets + math.log(3))
        assert shift_off_centre(0.31, 0.31, offsets, math.log(3)) == pytest.approx(off, rel=0.05)
    h = math.log(16)
    assert shift_of_equal_steps(0.465, 0.155, h, 15) == pytest.approx(
        parabola_shift(0.465, 0.155, h * np.linspace(-1, 1, 15)), rel=0.03
    )
    assert shift_of_equal_steps(0.4, 0.2, 1.0, 100_000) == pytest.approx(0.2 / 10, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.1, 0.6), st.floats(0.1, 0.6), st.floats(0.3, 2.0), st.integers(4, 20))
def test_shift_depends_on_exponents_and_design_alone(alpha: float, beta: float, h: float, n: int) -> None:
    offsets = h * np.linspace(-1, 1, n)
    for surface in (Surface(1.5, 300, 500, alpha, beta), Surface(0.5, 900, 50, alpha, beta)):
        best = surface.optimal(1e19)[0]
        sizes = best * np.exp(offsets)
        loss = surface.loss(sizes, 1e19 / 6 / sizes)
        vertex = find_vertices(np.log(sizes), loss[None], np.ones((1, n)), None)
        assert vertex.log_params[0] - math.log(best) == pytest.approx(parabola_shift(alpha, beta, offsets), abs=1e-7)
    assert parabola_shift(alpha, beta, offsets) == pytest.approx(-parabola_shift(beta, alpha, offsets), abs=1e-12)


def test_sampling_error_of_a_vertex() -> None:
    """Seven points on ±4x at 1e19, sd(L) = .01: .0332 by the formula; simulated .0330."""
    formula = vertex_standard_error(0.01, HOFFMANN.curvature(1e19), math.log(4), 7)
    assert formula == pytest.approx(0.0332, abs=5e-5)
    best = HOFFMANN.optimal(1e19)[0]
    sizes = best * np.geomspace(0.25, 4, 7)
    draws = 4000
    noise = 0.01 * np.random.default_rng(0).standard_normal((draws, 7))
    found = find_vertices(np.log(sizes), HOFFMANN.loss(sizes, 1e19 / 6 / sizes) + noise, np.ones((draws, 7)), None)
    assert np.std(found.log_params) == pytest.approx(0.0330, abs=0.0012)
    assert 0.01 * np.median(found.unit_error) == pytest.approx(formula, rel=0.02)


def test_weights_act_like_repeated_points() -> None:
    sizes = np.geomspace(1e6, 1e8, 7)
    loss = HOFFMANN.loss(sizes, 1e16 / sizes) + 0.01 * np.random.default_rng(1).standard_normal(7)
    weights = np.array([[1.0, 2, 1, 0, 3, 1, 1]])
    for shape in (None, np.array([[0.34, 0.28]])):
        one = find_vertices(np.log(sizes), loss[None], weights, shape)
        again = np.repeat(np.arange(7), weights[0].astype(int))
        two = find_vertices(np.log(sizes[again]), loss[None, again], np.ones((1, again.size)), shape)
        assert one.log_params[0] == pytest.approx(two.log_params[0], rel=1e-9)
        assert one.unit_error[0] == pytest.approx(two.unit_error[0], rel=1e-9)


def flags(points: pd.DataFrame, method: str = "parabola") -> tuple[str, ...]:
    found = isoflop_slices(points, method, surface=HOFFMANN)  # type: ignore[arg-type]
    assert len(found.slices) == 1
    return found.slices[0].flags


def one_slice(low: float, high: float, n: int, sigma: float = 0.0) -> pd.DataFrame:
    """Sizes from ``low`` to ``high`` times the optimum at 1e19 FLOPs."""
    sizes = HOFFMANN.optimal(1e19)[0] * np.geomspace(low, high, n)
    loss = HOFFMANN.loss(sizes, 1e19 / 6 / sizes) + sigma * np.random.default_rng(2).standard_normal(n)
    return pd.DataFrame({"params": sizes, "tokens": 1e19 / 6 / sizes, "flops": 1e19, "loss": loss})


def test_bracketing_checks() -> None:
    assert flags(one_slice(0.25, 4, 9)) == ()
    assert flags(one_slice(0.25, 4, 4)) == ("few_sizes",)
    assert flags(one_slice(1 / 16, 16, 9)) == ("wide",)
    assert flags(one_slice(1 / 16, 16, 9), "shape") == ()
    assert "edge" in flags(one_slice(1.2, 8, 9)) and "one_sided" in flags(one_slice(1.2, 8, 9))
    assert "off_centre" in flags(one_slice(0.6, 9, 9), "shape")
    assert "flat" in flags(one_slice(0.7, 1.4, 9, sigma=0.02))
    upside_down = one_slice(0.25, 4, 9)
    assert "no_minimum" in flags(upside_down.assign(loss=6 - upside_down["loss"]))


def test_slices_without_a_minimum_are_left_out_and_counted() -> None:
    points = design(HOFFMANN, 4, centre=lambda i: 12.0 if i == 2 else 1.0)
    found = isoflop_slices(points, "parabola")
    assert [s.used for s in found.slices] == [True, True, False, True, True]
    assert found.allocation is not None and found.allocation.n == 4 and "1 of 5 budgets" in found.warnings[0]
    two_sizes = isoflop_slices(points[points.index % 15 < 2], "parabola", surface=HOFFMANN)
    assert two_sizes.allocation is None and two_sizes.used == () and two_sizes.frontier().empty
    assert all(math.isnan(s.params) for s in two_sizes.slices)


def test_without_a_surface_there_is_no_shape() -> None:
    found = isoflop_slices(one_slice(0.25, 4, 4))
    assert found.used == () and found.shape is None and "No surface" in found.warnings[0]
    assert isoflop_slices(one_slice(0.25, 4, 4), "parabola").slices[0].shift is None


def test_budgets_that_stop_at_whole_steps_are_one_slice() -> None:
    points = design(HOFFMANN, 4, n=7)
    factor = 1 - 0.02 * (np.arange(len(points)) % 3)
    uneven = points.assign(tokens=points["tokens"] * factor, flops=points["flops"] * factor)
    uneven["loss"] = HOFFMANN.loss(uneven["params"].to_numpy(), uneven["tokens"].to_numpy())
    found = isoflop_slices(uneven)
    assert len(found.slices) == 5 and found.allocation is not None
    assert found.allocation.a == pytest.approx(HOFFMANN.a_N, rel=1e-6)
    assert found.slices[0].loss == pytest.approx(HOFFMANN.frontier.loss(found.slices[0].flops), rel=1e-9)


@pytest.mark.parametrize("method", ["shape", "parabola"])
def test_intervals_hold_the_truth(method: str) -> None:
    found = isoflop_slices(design(HOFFMANN, 4, n=9, sigma=0.006), method)  # type: ignore[arg-type]
    boot = bootstrap_isoflop(found, draws=200, seed=3)
    assert boot.failed == 0 and not boot.unstable and "within budgets" in boot.method
    low, high = boot.intervals["a"] or (math.nan, math.nan)
    assert low < HOFFMANN.a_N < high and 0.004 < high - low < 0.1
    assert boot.intervals["b"] == pytest.approx((1 - high, 1 - low))
    assert boot.log_params.shape == boot.loss.shape == (200, 5)
    inside = [
        ends is not None and ends[0] < HOFFMANN.optimal(s.flops)[0] < ends[1]
        for s, ends in ((s, boot.params_interval(i)) for i, s in enumerate(found.used))
    ]
    assert sum(inside) >= 3
    again = bootstrap_isoflop(found, draws=200, seed=3)
    assert again.intervals == boot.intervals


def test_runs_that_supply_several_budgets_are_drawn_as_wholes() -> None:
    points = design(HOFFMANN, 4, n=7, sigma=0.006)
    found = isoflop_slices(points.assign(run=points.index % 7), "parabola", surface=HOFFMANN)
    boot = bootstrap_isoflop(found, draws=100)
    assert boot.method.startswith("bootstrap of runs;")


def test_frontier_rows_feed_the_frontier_fit() -> None:
    from algoprog.scaling import fit_frontiers

    found = isoflop_slices(design(HOFFMANN, 4))
    fit = fit_frontiers(found.frontier("modern"))
    assert fit.laws["modern"].alpha == pytest.approx(HOFFMANN.gamma, rel=1e-5)
    assert pytest.approx(1.69, rel=1e-5) == fit.E


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"method": "cubic"}, "unknown way"), ({"tolerance": -1.0}, "bad budget tolerance")],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        isoflop_slices(one_slice(0.5, 2, 5), **arguments)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="bad bootstrap"):
        bootstrap_isoflop(isoflop_slices(one_slice(0.5, 2, 5), "parabola"), draws=0)
