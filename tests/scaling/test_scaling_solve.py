"""The solver: its gradient, and its optimum against general-purpose optimisers of scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares, minimize

from algoprog.scaling.fit import frontier_problem
from algoprog.scaling.search import solve_fixed, solve_shared
from algoprog.scaling.solve import Laws, Problem, gradient, objective, scaled_gradient


def problem_of(frame: pd.DataFrame, knee: float = np.inf) -> Problem:
    problem, _ = frontier_problem(frame)
    return Problem(problem.x, problem.y, problem.w, problem.own, knee)


def unpack(theta: np.ndarray) -> Laws:
    k = theta.size // 2
    return Laws(theta[-1:], theta[None, :k], theta[None, k : 2 * k])


def value(theta: np.ndarray, problem: Problem) -> float:
    return float(objective(unpack(theta), problem)[0])


@pytest.mark.parametrize("knee", [np.inf, 0.02])
def test_gradient_against_central_differences(study, knee: float) -> None:
    problem = problem_of(study(budgets=6, sigma=0.02), knee)
    rng = np.random.default_rng(1)
    for _ in range(5):
        theta = np.concatenate([rng.normal(0.7, 0.1, 3), rng.uniform(0.05, 0.1, 3), rng.uniform(1, 2.5, 1)])
        d_e, d_rho, d_alpha = gradient(unpack(theta), problem)
        found = np.concatenate([d_rho[0], d_alpha[0], d_e])
        step = 1e-6
        numeric = [
            (value(theta + step * unit, problem) - value(theta - step * unit, problem)) / (2 * step)
            for unit in np.eye(theta.size)
        ]
        assert found == pytest.approx(numeric, rel=1e-6, abs=1e-7)


def bounds_of(problem: Problem) -> list[tuple[float, float]]:
    k = problem.own.shape[1]
    return [(-20.0, 20.0)] * k + [(1e-4, 10.0)] * k + [(0.0, float(problem.lowest_loss[0]) * (1 - 1e-6))]


def starts_of(problem: Problem) -> list[np.ndarray]:
    k = problem.own.shape[1]
    loss = float(np.exp(problem.y).mean())
    return [
        np.array([np.log(loss * (1 - f))] * k + [0.1] * k + [f * float(problem.lowest_loss[0])])
        for f in (0.1, 0.5, 0.9)
    ]


@pytest.mark.parametrize("sigma", [0.001, 0.01, 0.03])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_squares_reach_the_optimum_of_scipy(study, sigma: float, seed: int) -> None:
    problem = problem_of(study(budgets=6, decades=2.0, sigma=sigma, seed=seed))
    best = solve_shared(problem)
    low, high = zip(*bounds_of(problem), strict=True)
    k, own = 3, problem.own.argmax(axis=1)

    def residual(theta: np.ndarray) -> np.ndarray:
        return np.log(theta[-1] + np.exp(theta[own] - theta[k + own] * problem.x[0])) - problem.y[0]

    ends = [
        least_squares(residual, s, bounds=(low, high), x_scale="jac", xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=2000)
        for s in starts_of(problem)
    ]
    theirs = min(end.cost for end in ends)
    assert best.objective[0] <= theirs * (1 + 1e-9)
    assert best.objective[0] == pytest.approx(theirs, rel=1e-3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_huber_reaches_the_optimum_of_scipy(study, seed: int) -> None:
    frame = study(budgets=8, sigma=0.003, seed=seed)
    frame.loc[::7, "loss"] *= 1.03
    problem = problem_of(frame, knee=0.003)
    best = solve_shared(problem)
    ends = []
    scale = 1e5  # a tiny objective stops scipy early

    def scaled(theta: np.ndarray) -> tuple[float, np.ndarray]:
        d_e, d_rho, d_alpha = gradient(unpack(theta), problem)
        return scale * value(theta, problem), scale * np.concatenate([d_rho[0], d_alpha[0], d_e])

    for start in starts_of(problem):
        options = {"maxiter": 5000, "maxfun": 10000, "ftol": 1e-15, "gtol": 1e-9}
        ends.append(
            minimize(scaled, start, jac=True, method="L-BFGS-B", bounds=bounds_of(problem), options=options).fun
        )
    assert best.objective[0] <= min(ends) / scale * (1 + 1e-9)
    assert best.objective[0] == pytest.approx(min(ends) / scale, rel=1e-3)
    assert scaled_gradient(best.laws, problem, np.ones(1, dtype=bool))[0] < 1e-6


def test_fixed_e_is_the_cross_section_of_the_shared_fit(study) -> None:
    problem = problem_of(study())
    best = solve_shared(problem)
    at_best = solve_fixed(problem, best.laws.e)
    assert at_best.objective[0] == pytest.approx(best.objective[0], rel=1e-12)
    for shift in (-0.2, -0.01, 0.01, 0.2):
        assert solve_fixed(problem, best.laws.e + shift).objective[0] > best.objective[0]


def test_a_batch_gives_what_its_members_give(study) -> None:
    parts = [problem_of(study(seed=seed), knee=0.004) for seed in range(5)]
    together = Problem(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("x", "y", "w")), parts[0].own, 0.004)
    best = solve_shared(together)
    for i, part in enumerate(parts):
        alone = solve_shared(part)
        assert alone.laws.e[0] == pytest.approx(best.laws.e[i], rel=1e-8)
        assert alone.laws.alpha[0] == pytest.approx(best.laws.alpha[i], rel=1e-8)
        assert alone.status[0] == best.status[i]


def test_padding_changes_nothing(study) -> None:
    one = problem_of(study(budgets=5))
    junk = np.full((1, 3), -2.0)
    padded = Problem(
        np.hstack([one.x, junk]),
        np.hstack([one.y, junk]),
        np.hstack([one.w, 0 * junk]),
        np.vstack([one.own, np.eye(3)]),
    )
    assert solve_shared(padded).laws.e[0] == pytest.approx(solve_shared(one).laws.e[0], rel=1e-10)
