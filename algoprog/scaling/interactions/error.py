"""How sure an effect is: pooled replicates, what a smaller model leaves over, Lenth's method, or resampled runs.

Everything asked of a factorial experiment is linear in the responses of the runs, ``w . y``, with standard error
``s sqrt(w . w)``; the ways differ in where s comes from and in its degrees of freedom:

* *replicates*: variance within cells (and budgets), pooled. Preferred wherever a cell was run twice.
* *residual*: variance around the model, if it has fewer terms than cells. Holds what the model leaves out.
* *lenth*: complete, unreplicated, one budget. With c the effects, ``s0 = 1.5 median |c|``, the pseudo standard error is
  ``1.5 median {|c| : |c| < 2.5 s0}``, with a third of the number of effects as degrees of freedom (Lenth, Technometrics
  31, 1989). It takes most effects to be noise, and is too wide where they are not.
* *bootstrap*: runs resampled within cells, deviations widened by ``sqrt(n / (n - 1))``; needs 3 runs in every cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from algoprog.scaling.errors import InputError
from algoprog.scaling.interactions.design import Design, group_means
from algoprog.scaling.intervals.bootstrap import percentiles
from algoprog.scaling.laws import FloatArray

ErrorMethod = Literal["auto", "bootstrap"]
Interval = tuple[float, float] | None
MIN_REPLICATES = 3  # of a cell, for a bootstrap
LENTH_EFFECTS = 3  # fewer leave no degree of freedom


@dataclass(frozen=True, eq=False)
class ErrorModel:
    """``kind`` as in the module docstring, or ``none``. ``s``: sd of one run's ln gain (NaN: none), ``freedom`` its
    degrees of freedom. ``centring``: matrix whose product with responses leaves their noise; ``effects``: weights of
    all effects, for Lenth's method.
    """

    kind: str
    s: float
    freedom: float
    centring: FloatArray
    effects: FloatArray | None
    level: float
    draws: int
    seed: int

    def describe(self) -> str:
        """The method in words."""
        freedom = f"{self.freedom:.3g} degrees of freedom"
        return {
            "replicates": f"t, variance of replicates pooled over cells, {freedom}",
            "residual": f"t, variance around the model, {freedom}",
            "lenth": f"Lenth's pseudo standard error of unreplicated effects, {freedom}",
            "bootstrap": f"bootstrap of runs within cells, {self.draws} draws, seed {self.seed}",
        }.get(self.kind, "no interval: no replicates and no degree of freedom to spare")


def choose_error(
    design: Design,
    y: FloatArray,
    matrix: FloatArray,
    effects: FloatArray | None,
    method: ErrorMethod,
    level: float,
    draws: int,
    seed: int,
) -> ErrorModel:
    """The error model for responses ``y`` (runs,) and a model ``matrix``; the first of the module docstring that applies.

    ``effects``: weights (terms, runs) of all effects if the design is complete, balanced and of one budget, else None.

    Raises InputError for a bootstrap with fewer than 3 runs in some cell.
    """
    runs, identity = y.size, np.eye(y.size)
    sizes = np.unique(design.group, return_counts=True)[1]
    within = identity - group_means(design)
    around = identity - matrix @ np.linalg.pinv(matrix)
    spare = runs - int(np.linalg.matrix_rank(matrix))
    if method == "bootstrap":
        if sizes.min() < MIN_REPLICATES:
            got = f"{sizes.min()} in the smallest"
            expected = f"{MIN_REPLICATES} or more in every cell"
            raise InputError("too few runs to resample within cells", got=got, expected=expected)
        kind, freedom, centring = "bootstrap", float(runs - sizes.size), within
    elif runs > sizes.size:
        kind, freedom, centring = "replicates", float(runs - sizes.size), within
    elif spare >= 1:
        kind, freedom, centring = "residual", float(spare), around
    elif effects is not None and len(effects) >= LENTH_EFFECTS:
        kind, freedom, centring = "lenth", len(effects) / 3.0, identity
    else:
        kind, freedom, centring = "none", 0.0, identity
    model = ErrorModel(kind, math.nan, freedom, centring, effects if kind == "lenth" else None, level, draws, seed)
    return replace(model, s=float(scale(model, y[None, :])[0]))


def scale(model: ErrorModel, y: FloatArray) -> FloatArray:
    """Sd of one run's response for each row of ``y`` (draws, runs); NaN without an error model. Shape (draws,)."""
    if model.kind == "none":
        return np.full(y.shape[0], np.nan)
    if model.effects is not None:
        size = np.abs(y @ model.effects.T)
        limit = 2.5 * 1.5 * np.median(size, axis=1, keepdims=True)
        # An effect of exactly 0 is below any limit, also where half of them are 0.
        pseudo = 1.5 * np.nanmedian(np.where((size < limit) | (size == 0), size, np.nan), axis=1)
        return np.asarray(pseudo / np.sqrt((model.effects[0] ** 2).sum()))
    noise = y @ model.centring.T
    return np.asarray(np.sqrt((noise**2).sum(axis=1) / model.freedom))


def intervals(model: ErrorModel, weights: FloatArray, y: FloatArray, law_draws: FloatArray | None) -> list[Interval]:
    """The interval of every row of ``weights`` (m, runs) . ``y`` (runs,); None without an error model.

    ``law_draws``: responses (draws, runs) under draws of the reference law, whose spread is then added to that of the
    runs.
    """
    if model.kind == "none":
        return [None] * len(weights)
    if model.kind == "bootstrap" or law_draws is not None:
        # A draw of the law with E above a loss has no gain there: NaN, which counts against both ends.
        with np.errstate(invalid="ignore"):
            values = _simulate(model, weights, y, law_draws)
        return [percentiles(column, model.level) for column in values.T]
    from scipy import special

    reach = float(special.stdtrit(model.freedom, 0.5 * (1.0 + model.level))) * model.s
    half = reach * np.sqrt((weights**2).sum(axis=1))
    centre = weights @ y
    return [(float(c - h), float(c + h)) for c, h in zip(centre, half, strict=True)]


def _simulate(model: ErrorModel, weights: FloatArray, y: FloatArray, law_draws: FloatArray | None) -> FloatArray:
    """Draws of ``weights . y``, shape (draws, m): noise of the runs on top of the law's."""
    rng = np.random.default_rng(model.seed)
    base = np.broadcast_to(y, (model.draws, y.size)) if law_draws is None else law_draws
    if model.kind == "bootstrap":
        return np.asarray((base + _resampled(model, base, rng)) @ weights.T)
    s = scale(model, base)
    noise = rng.standard_t(model.freedom, (base.shape[0], len(weights)))
    return np.asarray(base @ weights.T + s[:, None] * np.sqrt((weights**2).sum(axis=1)) * noise)


def _resampled(model: ErrorModel, base: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The change of every run when its cell is resampled: a widened deviation of a mate, minus its own deviation."""
    deviations = base @ model.centring.T
    change = -deviations.copy()
    mates = model.centring != 0
    for i in range(base.shape[1]):
        members = np.flatnonzero(mates[i])
        picked = members[rng.integers(members.size, size=base.shape[0])]
        widen = math.sqrt(members.size / (members.size - 1))
        change[:, i] += widen * deviations[np.arange(base.shape[0]), picked]
    return change
