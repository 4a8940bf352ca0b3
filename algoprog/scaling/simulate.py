"""Simulated sweeps with a known truth: what the coverage of an interval is measured on, and figures are tried on.

The model of a run of N parameters and C training FLOPs, with u = ln(N/N*(C)) its distance from the best size:

* true loss ``E + r (1 + kappa u^2 / 2)`` with ``r = a (C/C0)^-alpha`` of its architecture (to second order, the
  loss of Hoffmann et al. 2022, eq. 2, off its optimum; ``kappa`` = alpha beta of that surface);
* sizes come from one fixed grid, so that no budget has its best size exactly;
* ``ln L`` gets a run effect with ``sd(L) = s0 (L/3)^q`` (the form of the seed noise of Porian et al. 2024), evaluation
  noise, and a tuning gap that is never negative.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import FloatArray, PowerLaw

FLOPS_PER_PARAM_TOKEN = 6  # Kaplan et al. 2020, section 2.1
TOKENS_PER_PARAM = 20.0  # of the best size, after Hoffmann et al. 2022
PARAMS_PER_WIDTH2 = 48  # 12 per layer of a transformer (Kaplan et al. 2020, table 1), four layers
REFERENCE_LOSS = 3.0  # nats, at which s0 holds


@dataclass(frozen=True)
class Design:
    """Which runs a sweep has, the same for every architecture.

    ``budgets`` equal steps in ln C over ``decades`` from ``lowest`` FLOPs; in each the ``widths`` sizes of the grid
    nearest to the best one, neighbours a factor ``size_step`` apart in parameters; ``seeds`` runs of each.
    ``curve_points``: rows per run, the last one the finished run, the others equal steps in ln C over its last decade.
    """

    budgets: int = 7
    decades: float = 2.0
    lowest: float = 1e15
    widths: int = 3
    size_step: float = 2.0
    seeds: int = 1
    curve_points: int = 1

    def __post_init__(self) -> None:
        for name in ("budgets", "widths", "seeds", "curve_points"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        _require("lowest", self.lowest, self.lowest > 0, "FLOPs > 0")
        _require("decades", self.decades, self.decades > 0, "a number > 0")
        _require("size_step", self.size_step, self.size_step > 1, "a factor > 1")


@dataclass(frozen=True)
class Noise:
    """What separates a measured loss from the true frontier.

    ``s0``: sd of the loss over runs of one design, in nats at a loss of 3; ``q``: its power of the loss (1: constant
    in ln L). ``within``: correlation of the noise of two points of one run. ``paired``: correlation of the run
    effects of two architectures with equal budget, size rank and seed, which see the same data in the same order.
    ``tuning``: mean of the tuning gap in ln L (exponential). ``evaluation``: sd of the evaluation in ln L.
    ``curvature``: kappa of the module docstring. ``unfinished``: how far, in parts of r, a point at the start of its
    run's last decade lies above a finished run of its compute, because its learning rate has not been lowered yet.
    """

    s0: float = 0.009
    q: float = 1.0
    within: float = 0.8
    paired: float = 0.0
    tuning: float = 0.0
    evaluation: float = 0.0
    curvature: float = 0.095
    unfinished: float = 0.05

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            _require(field.name, value, value >= 0, "a finite number >= 0")
        for name in ("within", "paired"):
            _require(name, getattr(self, name), getattr(self, name) <= 1, "a correlation from 0 to 1")


def simulate_sweep(
    truth: Mapping[str, PowerLaw], design: Design, noise: Noise, rng: np.random.Generator
) -> pd.DataFrame:
    """One sweep of every architecture in ``truth`` (its compute-optimal law), as ``load_runs`` would read it.

    Returns columns ``run, arch, width, params, tokens, flops, loss, step, seed, state``: one row per run and logged
    point, ``step`` 1 ... ``curve_points``, all runs ``done``. FLOPs are 6 N D with whole widths and tokens, so they
    are not exactly equal within a budget. Raises InputError without an architecture.
    """
    if not truth:
        raise InputError("no architecture to simulate", expected="a law per architecture")
    budgets = np.geomspace(design.lowest, design.lowest * 10.0**design.decades, design.budgets)
    runs = [(c, width, seed) for c in budgets for width in _widths(c, design) for seed in range(design.seeds)]
    flops, width, seed = (np.array(column, dtype=np.float64)[:, None] for column in zip(*runs, strict=True))
    common = rng.standard_normal(flops.shape)
    parts = []
    for arch, law in truth.items():
        effect = math.sqrt(noise.paired) * common + math.sqrt(1.0 - noise.paired) * rng.standard_normal(flops.shape)
        params, tokens, compute, loss = _measure(law, flops, width, effect, design, noise, rng)
        names = [f"{arch}-{number}" for number in range(len(runs))]
        step = np.arange(1.0, design.curve_points + 1.0)
        numbers = {"width": width, "params": params, "tokens": tokens, "flops": compute, "loss": loss}
        numbers |= {"step": step, "seed": seed}
        columns = {"run": np.repeat(names, design.curve_points), "arch": arch}
        columns |= {name: np.broadcast_to(value, loss.shape).ravel() for name, value in numbers.items()}
        parts.append(pd.DataFrame(columns | {"state": "done"}))
    return pd.concat(parts, ignore_index=True)


def best_size(flops: FloatArray) -> FloatArray:
    """The simulated compute-optimal N at ``flops``: ``C = 6 N D`` with D = 20 N."""
    return np.sqrt(flops / (FLOPS_PER_PARAM_TOKEN * TOKENS_PER_PARAM))


def _widths(flops: float, design: Design) -> list[int]:
    """Widths of the runs of one budget, ascending: whole numbers nearest to a geometric grid."""
    step = math.log(design.size_step)
    place = math.log(float(best_size(np.asarray(flops))) / PARAMS_PER_WIDTH2) / step
    first = round(place - (design.widths - 1) / 2)
    return [max(1, round(math.exp(0.5 * step * (first + i)))) for i in range(design.widths)]


def _measure(
    law: PowerLaw,
    flops: FloatArray,
    width: FloatArray,
    effect: FloatArray,
    design: Design,
    noise: Noise,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Params (runs, 1), and tokens, FLOPs and measured loss (runs, points); the other arrays are (runs, 1)."""
    params = PARAMS_PER_WIDTH2 * width**2
    n = design.curve_points
    before = np.linspace(-1.0, 0.0, n) if n > 1 else np.zeros(1)  # decades before the end of the run
    tokens = np.maximum(np.round(flops / (FLOPS_PER_PARAM_TOKEN * params) * 10.0**before), 1.0)
    compute = FLOPS_PER_PARAM_TOKEN * params * tokens
    off = np.log(params / best_size(compute))
    above = 1.0 + 0.5 * noise.curvature * off**2 - noise.unfinished * before
    loss = law.E + (law.loss(compute) - law.E) * above
    spread = noise.s0 * (loss / REFERENCE_LOSS) ** noise.q / loss
    drawn = math.sqrt(noise.within) * effect + math.sqrt(1.0 - noise.within) * rng.standard_normal(loss.shape)
    gap = noise.tuning * rng.standard_exponential(flops.shape)
    final = np.log(loss) + spread * drawn + gap + noise.evaluation * rng.standard_normal(loss.shape)
    return params, tokens, compute, np.exp(final)


def _require(name: str, value: float, good: bool, expected: str) -> None:
    if not (math.isfinite(value) and good):
        raise InputError(f"bad {name}", got=value, expected=expected)
