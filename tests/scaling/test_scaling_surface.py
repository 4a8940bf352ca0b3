"""Surfaces L(N, D): closed forms, recovery, gradients, statuses, intervals."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoprog.scaling import InputError, Status, Surface, analyse_surfaces, bootstrap_surface, fit_surface
from algoprog.scaling.surface.commands import surface_json
from algoprog.scaling.surface.model import SurfaceProblem, gradient, jacobian, objective
from algoprog.scaling.surface.profile import profile_surface
from algoprog.scaling.surface.projection import projected_rss, projected_start
from algoprog.scaling.surface.search import start_grid
from algoprog.scaling.surface.solve import descend, schedule

HOFFMANN = Surface(1.69, 406.4, 410.7, 0.34, 0.28)
LOPSIDED = Surface(1.69, 406.4, 410.7, 0.465, 0.155)
EVEN = Surface(1.69, 400.0, 400.0, 0.31, 0.31)
quick = settings(max_examples=15, deadline=None)


def design(surface: Surface, sizes: int = 9, spread: float = 8.0, sigma: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Five budgets from 1e17 to 1e21 FLOPs, ``sizes`` sizes on a factor of ``spread`` to each side of the optimum."""
    rng = np.random.default_rng(seed)
    rows = []
    for flops in 10.0 ** np.arange(17, 22):
        best, _ = surface.optimal(flops)
        for n in best * np.geomspace(1 / spread, spread, sizes):
            noise = math.exp(sigma * rng.standard_normal())
            rows.append((n, flops / 6 / n, flops, surface.loss(n, flops / 6 / n) * noise))
    return pd.DataFrame(rows, columns=["params", "tokens", "flops", "loss"])


surfaces = st.builds(
    Surface,
    E=st.floats(0.8, 2.5),
    A=st.floats(50, 2000),
    B=st.floats(50, 2000),
    alpha=st.floats(0.2, 0.5),
    beta=st.floats(0.2, 0.5),
)


@quick
@given(surfaces, st.floats(16, 24))
def test_optimum_is_the_minimum_and_closed_forms_agree(surface: Surface, decade: float) -> None:
    flops = 10**decade
    n, d = surface.optimal(flops)
    assert n * d == pytest.approx(flops / 6, rel=1e-12)
    around = n * np.exp(np.linspace(-0.5, 0.5, 101))
    losses = surface.loss(around, flops / 6 / around)
    assert np.argmin(losses) == 50
    assert surface.frontier.loss(flops) == pytest.approx(surface.loss(n, d), rel=1e-12)
    assert surface.compute(surface.loss(n, d)) == pytest.approx(flops, rel=1e-6)
    h = 1e-3
    bend = (surface.loss(n * math.exp(h), d / math.exp(h)) + surface.loss(n / math.exp(h), d * math.exp(h))) / h**2
    assert bend - 2 * surface.loss(n, d) / h**2 == pytest.approx(surface.curvature(flops), rel=1e-3)
    assert surface.a_N + surface.b_D == pytest.approx(1) and surface.compute(surface.E) == math.inf


def test_optimum_of_the_published_surface() -> None:
    """Hoffmann et al. (2022) rounded: a_N = .4516; the frontier exponent .154; arrays and numbers agree."""
    assert HOFFMANN.a_N == pytest.approx(0.45161, abs=1e-5) and HOFFMANN.gamma == pytest.approx(0.15355, abs=1e-5)
    n, d = HOFFMANN.optimal(np.array([1e18, 1e20]))
    assert (n[1], d[1]) == pytest.approx(HOFFMANN.optimal(1e20))
    other = replace(HOFFMANN, flops_per_param_token=8.0)
    assert math.prod(other.optimal(1e20)) == pytest.approx(1e20 / 8)


@pytest.mark.parametrize("surface", [HOFFMANN, LOPSIDED, EVEN])
@pytest.mark.parametrize("loss", ["huber", "squared", "lad", "squared-linear"])
def test_noise_free_surfaces_are_recovered(surface: Surface, loss: str) -> None:
    fit = fit_surface(design(surface, sizes=15, spread=16.0), loss)  # type: ignore[arg-type]
    assert fit.surface is not None and fit.status is Status.CONVERGED and fit.agreeing >= 2
    found, expected = fit.surface, surface
    for name in ("E", "alpha", "beta", "a_N", "gamma"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-6), name
    assert pytest.approx(expected.A, rel=1e-4) == found.A and pytest.approx(expected.B, rel=1e-4) == found.B
    if loss == "huber":
        assert fit.loss == "squared" and "rounding" in fit.reason


@quick
@given(surfaces)
def test_random_noise_free_surfaces_are_recovered(surface: Surface) -> None:
    fit = fit_surface(design(surface), "squared")
    assert fit.surface is not None
    assert fit.surface.alpha == pytest.approx(surface.alpha, rel=1e-6)
    assert pytest.approx(surface.E, rel=1e-6) == fit.surface.E


@quick
@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.integers(0, 100))
def test_units_of_params_and_tokens_do_not_matter(n_unit: float, d_unit: float, seed: int) -> None:
    points = design(HOFFMANN, sigma=0.003, seed=seed)
    one = fit_surface(points)
    two = fit_surface(points.assign(params=points["params"] * n_unit, tokens=points["tokens"] * d_unit))
    assert one.surface is not None and two.surface is not None
    assert two.surface.alpha == pytest.approx(one.surface.alpha, rel=1e-7)
    assert pytest.approx(one.surface.E, rel=1e-7) == two.surface.E
    assert pytest.approx(one.surface.A * n_unit**one.surface.alpha, rel=1e-5) == two.surface.A


def test_order_of_rows_does_not_matter() -> None:
    points = design(HOFFMANN, sigma=0.003)
    one, two = fit_surface(points), fit_surface(points.sample(frac=1, random_state=3))
    assert one.surface is not None and two.surface is not None
    assert two.surface.gamma == pytest.approx(one.surface.gamma, rel=1e-9)


def problem(knee: float = np.inf, **options: object) -> tuple[SurfaceProblem, np.ndarray]:
    points = design(HOFFMANN, sizes=6, sigma=0.01)
    u, v = np.log(points["params"].to_numpy()), np.log(points["tokens"].to_numpy())
    y = np.log(points["loss"].to_numpy())
    rng = np.random.default_rng(1)
    made = SurfaceProblem(u - u.mean(), v - v.mean(), y, rng.integers(0, 3, (2, y.size)).astype(float), knee)
    return replace(made, **options), start_grid(y)[[2, 7]] + 0.05 * rng.standard_normal((2, 5))  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"knee": 0.05}, {"raw": True}, {"raw": True, "knee": 0.2, "tilt": 10.0}])
def test_gradient_against_central_differences(options: dict[str, object]) -> None:
    made, p = problem(**options)  # type: ignore[arg-type]
    for k in range(5):
        step = np.zeros(5)
        step[k] = 1e-6
        slope = (objective(p + step, made) - objective(p - step, made)) / 2e-6
        assert gradient(p, made)[:, k] == pytest.approx(slope, rel=1e-5, abs=1e-6)


def test_gradient_of_the_projected_squares_against_central_differences() -> None:
    made, _ = problem()
    loss, at = np.exp(made.y), np.array([0.41, 0.23])
    for k in range(2):
        step = np.zeros(2)
        step[k] = 1e-6
        slope = projected_rss(at + step, made.u, made.v, loss)[0] - projected_rss(at - step, made.u, made.v, loss)[0]
        assert projected_rss(at, made.u, made.v, loss)[1][k] == pytest.approx(slope / 2e-6, rel=1e-4)


def test_projection_alone_recovers_a_surface() -> None:
    points = design(LOPSIDED)
    u, v = np.log(points["params"].to_numpy()), np.log(points["tokens"].to_numpy())
    a, b, e, alpha, beta = projected_start(u - u.mean(), v - v.mean(), points["loss"].to_numpy())
    assert (alpha, beta) == pytest.approx((0.465, 0.155), rel=1e-3)
    assert math.exp(e) == pytest.approx(1.69, rel=1e-3)


def test_conditioning_of_the_parametrisations() -> None:
    """Condition numbers of JᵀJ of L: raw, log-sum-exp, centred, unit columns, projected."""
    points = design(LOPSIDED, sizes=15, spread=16.0)
    n, d, loss = (points[name].to_numpy() for name in ("params", "tokens", "loss"))
    s, log_n, log_d = LOPSIDED, np.log(points["params"].to_numpy()), np.log(points["tokens"].to_numpy())
    terms = s.A * n**-s.alpha, s.B * d**-s.beta

    def condition(j: np.ndarray) -> float:
        return float(np.linalg.cond(j.T @ j))

    def log_sum_exp(n0: float, d0: float) -> np.ndarray:
        made = SurfaceProblem(log_n - n0, log_d - d0, np.log(loss), np.ones((1, n.size)))
        p = [np.log(s.A) - s.alpha * n0, np.log(s.B) - s.beta * d0, np.log(s.E), s.alpha, s.beta]
        return jacobian(np.array([p]), made)[0] * loss[:, None]

    raw = np.stack([n**-s.alpha, d**-s.beta, np.ones_like(n), -terms[0] * log_n, -terms[1] * log_d], axis=1)
    centred = log_sum_exp(log_n.mean(), log_d.mean())
    linear, bent = centred[:, :3], centred[:, 3:]
    projected = bent - linear @ np.linalg.lstsq(linear, bent, rcond=None)[0]
    found = [condition(raw), condition(log_sum_exp(0, 0)), condition(centred)]
    found += [condition(centred / np.linalg.norm(centred, axis=0)), condition(projected)]
    assert found == pytest.approx([1.6e11, 1.7e6, 1.6e4, 9.4e2, 5.4], rel=0.03)


def test_knees_shrink_to_the_target() -> None:
    assert schedule(np.inf) == [np.inf] and schedule(0.5) == [0.5]
    assert schedule(1e-3) == pytest.approx([0.1, 0.01, 1e-3]) and schedule(4e-3) == pytest.approx([0.1, 0.01, 4e-3])
    assert schedule(1e-6) == pytest.approx([0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6])


def test_batched_descents_equal_single_ones() -> None:
    made, p = problem(knee=0.01)
    both = descend(made, p)
    for row in range(2):
        alone = descend(made.take(np.array([row])), p[row : row + 1])
        assert both.objective[row] == pytest.approx(alone.objective[0], rel=1e-12)


def test_huber_resists_an_outlier() -> None:
    points = design(HOFFMANN, sigma=0.003)
    spoilt = points.assign(loss=np.where(points.index == 7, points["loss"] * 1.1, points["loss"]))
    moved = {}
    for loss in ("huber", "lad", "squared"):
        clean, hit = fit_surface(points, loss), fit_surface(spoilt, loss)  # type: ignore[arg-type]
        assert clean.surface is not None and hit.surface is not None
        moved[loss] = abs(hit.surface.gamma - clean.surface.gamma)
    assert max(moved["huber"], moved["lad"]) < 0.3 * moved["squared"]


def test_too_few_is_a_status() -> None:
    points = design(HOFFMANN, sigma=0.003)
    assert fit_surface(points.iloc[::8]).status is Status.TOO_FEW  # six runs
    assert fit_surface(points.iloc[:9]).status is Status.TOO_FEW  # one budget
    assert fit_surface(points.iloc[:9]).surface is not None
    none = fit_surface(points.iloc[:4])
    assert none.surface is None and none.status is Status.TOO_FEW and "not fitted" in none.reason
    assert math.isnan(none.sigma)
    one_size = fit_surface(points.assign(params=1e7))
    assert one_size.surface is None and one_size.status is Status.TOO_FEW


def test_a_term_that_does_not_matter_is_a_bound() -> None:
    points = design(HOFFMANN)
    flat = fit_surface(points.assign(loss=1.9 + 400 * points["params"] ** -0.34), "squared")
    assert flat.status is Status.BOUND_HIT
    no_floor = fit_surface(
        points.assign(loss=300 * points["params"] ** -0.3 + 300 * points["tokens"] ** -0.3), "squared"
    )
    assert no_floor.status is Status.BOUND_HIT and no_floor.surface is not None
    assert no_floor.surface.E < 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_wild_data_never_raise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for n in (1, 5, 7, 30):
        columns = {name: np.exp(rng.uniform(0, 60, n)) for name in ("params", "tokens")}
        fit = fit_surface(pd.DataFrame({**columns, "loss": np.exp(rng.normal(0, 3, n))}))
        assert isinstance(fit.status, Status)


def test_points_of_one_run_are_not_independent() -> None:
    points = design(HOFFMANN)
    rng = np.random.default_rng(0)
    effect = 0.01 * rng.standard_normal(len(points))
    parts = [
        points.assign(run=points.index, loss=points["loss"] * np.exp(effect + 0.002 * rng.standard_normal(len(points))))
        for _ in range(4)
    ]
    fit = fit_surface(pd.concat(parts, ignore_index=True))
    assert (fit.n, fit.runs, fit.points_per_run) == (180, 45, 4.0) and fit.run_correlation > 0.8
    independent = fit_surface(pd.concat(parts, ignore_index=True).drop(columns="run"))
    assert math.isnan(independent.run_correlation)
    widths = []
    for one in (fit, independent):
        low, high = bootstrap_surface(one, draws=100).intervals["alpha"] or (0.0, 0.0)
        widths.append(high - low)
    assert widths[0] > 1.5 * widths[1]


def test_intervals_cover_the_truth() -> None:
    """Sixteen studies: a 95 % interval misses more than four of them with a probability below .001."""
    missed = dict.fromkeys(("E", "alpha", "beta", "a_N", "gamma", "profile"), 0)
    for seed in range(16):
        fit = fit_surface(design(HOFFMANN, sizes=7, sigma=0.004, seed=seed))
        boot = bootstrap_surface(fit, draws=100, seed=seed)
        assert boot.profile is not None
        ends = dict(boot.intervals) | {"profile": boot.profile.interval}
        for name in missed:
            interval, truth = ends[name], HOFFMANN.E if name == "profile" else getattr(HOFFMANN, name)
            assert interval is not None
            missed[name] += not interval[0] <= truth <= interval[1]
    assert max(missed.values()) <= 4, missed


def test_profile_follows_its_definition() -> None:
    from scipy.stats import f as f_distribution

    fit = fit_surface(design(HOFFMANN, sigma=0.004), "squared")
    profile = profile_surface(fit)
    assert profile.interval is not None and fit.surface is not None
    assert profile.interval[0] < fit.surface.E < profile.interval[1]
    at_ends = profile_surface(fit, grid=np.array(profile.interval)).objective / fit.objective
    assert 40 * (at_ends - 1) == pytest.approx(f_distribution.ppf(0.95, 1, 40), rel=0.01)
    with pytest.raises(InputError, match="bad grid"):
        profile_surface(fit, grid=np.array([9.0]))


def test_bootstrap_is_deterministic_and_counts_failures() -> None:
    fit = fit_surface(design(HOFFMANN, sizes=5, sigma=0.004).iloc[::3])
    one, two = bootstrap_surface(fit, draws=50, seed=1), bootstrap_surface(fit, draws=50, seed=1)
    assert one.intervals == two.intervals and sum(one.status_counts.values()) == 50
    empty = bootstrap_surface(fit_surface(design(HOFFMANN).iloc[:3]), draws=10)
    assert empty.intervals["E"] is None and empty.unstable and empty.status_counts == {"too_few": 10}


def test_a_fixed_ratio_of_tokens_to_parameters_is_warned_about() -> None:
    n = np.geomspace(1e6, 1e9, 20)
    rng = np.random.default_rng(0)
    loss = HOFFMANN.loss(n, 20 * n) * np.exp(0.003 * rng.standard_normal(20))
    study = analyse_surfaces(pd.DataFrame({"params": n, "tokens": 20 * n, "loss": loss}), draws=20)
    assert any("go together" in warning for warning in study.surfaces[0].warnings)


def test_study_of_several_architectures() -> None:
    points = pd.concat([design(HOFFMANN, sigma=0.003).assign(arch="a"), design(EVEN, sigma=0.003).assign(arch="b")])
    with pytest.raises(InputError, match="more than one architecture"):
        fit_surface(points)
    study = analyse_surfaces(points, draws=20, min_flops=5e17)
    assert [found.arch for found in study.surfaces] == ["a", "b"]
    first = surface_json(study.surfaces[0])
    assert first["a"] == pytest.approx(HOFFMANN.a_N, rel=0.05) and first["n"] == 36
    assert first["excluded"] == {"outside the cuts on flops": 9}


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"params": -1.0}, {}, "bad params"),
        ({"loss": 0.0}, {}, "bad loss"),
        ({"tokens": math.inf}, {}, "bad tokens"),
        ({"params": math.nan}, {}, "no point is left; got '45 without params or tokens"),
        ({}, {"min_flops": 1e30}, "no point is left; got '45 outside the cuts"),
        ({}, {"loss": "l1"}, "unknown objective"),
        ({}, {"delta": 0.0}, "bad Huber knee"),
        ({}, {"delta": 1e-3, "loss": "lad"}, "bad Huber knee"),
        ({}, {"flops_per_param_token": 0.0}, "bad FLOPs per parameter"),
    ],
)
def test_bad_input_is_refused(change: dict[str, float], arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_surface(design(HOFFMANN).assign(**change), **arguments)  # type: ignore[arg-type]


def test_missing_columns_and_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="missing column tokens"):
        fit_surface(design(HOFFMANN).drop(columns="tokens"))
    with pytest.raises(InputError, match="no points"):
        fit_surface(design(HOFFMANN).iloc[:0])
    with pytest.raises(InputError, match="bad bootstrap"):
        bootstrap_surface(fit_surface(design(HOFFMANN)), draws=0)


@pytest.mark.parametrize(("name", "value"), [("E", -1.0), ("A", 0.0), ("beta", math.nan), ("alpha", math.inf)])
def test_bad_surfaces_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"Surface.{name}"):
        replace(HOFFMANN, **{name: value})


def test_results_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        fit_surface(design(HOFFMANN)).sigma = 1.0  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        HOFFMANN.E = 1.0  # type: ignore[misc]
