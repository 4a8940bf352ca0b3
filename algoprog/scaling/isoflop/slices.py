"""IsoFLOP slices: the optimal size at each budget, and how it grows with compute.

A slice holds the runs of one budget C. Its optimum is fitted once, in ln N, and D* = C/(k N*): two separate parabolas
would break N* D* = C/k. Two estimators:

* ``shape``: ``L = c0 + p e^(-alpha x) + q e^(beta x)``, x = ln N, with alpha and beta of the surface fitted to all
  budgets. This is the slice of the surface itself, so a wide or lopsided design does not bias it.
* ``parabola`` in ln N (Approach 2 of Hoffmann et al. 2022), a diagnostic, with the shift that its truncation causes.

Both are linear least squares in three coefficients. ``N* ∝ C^a`` follows by weighted least squares in logarithms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from algoprog.scaling.errors import InputError
from algoprog.scaling.frontier import BUDGET_TOLERANCE, budget_groups
from algoprog.scaling.isoflop.bias import parabola_shift
from algoprog.scaling.isoflop.checks import EXCLUDING, LEAST_SIZES, SliceMethod, failed_checks
from algoprog.scaling.isoflop.vertex import Vertices, find_vertices, weighted_line
from algoprog.scaling.laws import FloatArray
from algoprog.scaling.search import Status
from algoprog.scaling.surface.fit import SurfaceFit, fit_surface
from algoprog.scaling.surface.law import FLOPS_PER_PARAM_TOKEN, Surface
from algoprog.scaling.surface.points import SurfacePoints, surface_points


@dataclass(frozen=True)
class Slice:
    """One budget. ``flops``: its C (geometric mean); ``n`` runs of ``sizes`` distinct N over ``params_range``.

    ``params``, ``tokens``, ``loss``: N*, D* = C/(k N*), L* in nats per token; ``curvature`` of L in ln N there, nats;
    ``standard_error`` of ln N*. NaN where the slice has no minimum, and the error also without any degree of freedom.
    ``shift``: what the parabola's truncation adds to ln N*, from the shape at this design (None for the shape fit).
    ``flags``: failed checks by name (``FLAGS``); ``used``: whether the slice counts in what follows.
    """

    flops: float
    n: int
    sizes: int
    params_range: tuple[float, float]
    params: float
    tokens: float
    loss: float
    curvature: float
    standard_error: float
    shift: float | None
    flags: tuple[str, ...]
    used: bool


@dataclass(frozen=True)
class Allocation:
    """``N* = exp(log_coefficient) C^a``, D* = C/(k N*) so that D* ∝ C^(1-a); from ``n`` slices."""

    a: float
    log_coefficient: float
    n: int
    flops_per_param_token: float = FLOPS_PER_PARAM_TOKEN

    def optimal(self, flops: float) -> tuple[float, float]:
        """``(N*, D*)`` at ``flops``."""
        params = math.exp(self.log_coefficient + self.a * math.log(flops))
        return params, flops / (self.flops_per_param_token * params)


@dataclass(frozen=True, eq=False)
class Isoflop:
    """Slices of one architecture, ``allocation`` None below two slices that count.

    ``sigma``: pooled residual sd of the loss in nats, NaN without degrees of freedom. ``method`` used; ``shape``:
    (alpha, beta) of the shape fit and of the parabola's shift, None if unknown. ``surface``: the fit that they come
    from, None if a surface was given. ``groups`` numbers the budget of every point, (n,). ``warnings`` are sentences.
    """

    slices: tuple[Slice, ...]
    allocation: Allocation | None
    sigma: float
    method: SliceMethod
    shape: tuple[float, float] | None
    surface: SurfaceFit | None
    points: SurfacePoints
    groups: NDArray[np.intp]
    warnings: tuple[str, ...]

    @property
    def used(self) -> tuple[Slice, ...]:
        """The slices that count."""
        return tuple(found for found in self.slices if found.used)

    def frontier(self, arch: str = "all") -> pd.DataFrame:
        """One row per used slice: ``arch, flops, loss, params, tokens``, for ``fit_frontiers``."""
        rows = [
            {"arch": arch, "flops": s.flops, "loss": s.loss, "params": s.params, "tokens": s.tokens} for s in self.used
        ]
        return pd.DataFrame(rows, columns=["arch", "flops", "loss", "params", "tokens"])


def isoflop_slices(
    points: pd.DataFrame,
    method: SliceMethod = "shape",
    *,
    surface: Surface | None = None,
    tolerance: float = BUDGET_TOLERANCE,
    flops_per_param_token: float = FLOPS_PER_PARAM_TOKEN,
) -> Isoflop:
    """Cut ``points`` of one architecture (``params, tokens, loss`` and, where known, ``flops``, ``run``) into budgets.

    ``surface``: gives alpha and beta; default: fitted to the same points. Runs whose C lies within ``tolerance`` above
    the cheapest of a budget share it; the shape fit moves their losses to the budget's C along the surface.

    Raises InputError for a malformed table or argument; what the data do is told by flags and warnings.
    """
    if method not in ("shape", "parabola"):
        raise InputError("unknown way to fit a slice", got=method, expected="shape or parabola")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise InputError("bad budget tolerance", got=tolerance, expected="a finite number >= 0")
    data = surface_points(points, 0.0, math.inf, flops_per_param_token)
    fit = fit_surface(points, flops_per_param_token=flops_per_param_token) if surface is None else None
    known = surface if fit is None else fit.surface
    groups = _budgets(data.flops, tolerance)
    warnings = []
    if known is None:
        warnings.append("No surface could be fitted, so the exponents that shape a slice are unknown.")
    if known is None and method == "shape":
        empty = tuple(_no_slice(data, groups == g, ("few_sizes",)) for g in range(groups.max() + 1))
        return Isoflop(empty, None, math.nan, method, None, fit, data, groups, tuple(warnings))
    if fit is not None and known is not None and fit.status is not Status.CONVERGED:
        warnings.append(
            f"The surface that gives the shape of the slices ended as {fit.status.value}; see the parabola too."
        )
    shape = None if known is None else (known.alpha, known.beta)
    loss = adjusted_loss(data, groups, known) if method == "shape" and known is not None else data.loss
    found = _fit_all(data, groups, loss, method, shape)
    sigma = _pooled(found, groups)
    slices = tuple(_describe(data, groups == g, vertex, method, shape, sigma) for g, vertex in enumerate(found))
    dropped = [s for s in slices if not s.used]
    if dropped:
        warnings.append(f"{len(dropped)} of {len(slices)} budgets have no usable minimum and are left out.")
    return Isoflop(
        slices,
        fit_allocation(slices, data.flops_per_param_token),
        sigma,
        method,
        shape,
        fit,
        data,
        groups,
        tuple(warnings),
    )


def fit_allocation(
    slices: tuple[Slice, ...], flops_per_param_token: float = FLOPS_PER_PARAM_TOKEN
) -> Allocation | None:
    """``ln N*`` on ``ln C`` by least squares, weights 1/SE^2 where every used slice has an error, else equal."""
    used = [s for s in slices if s.used]
    if len({s.flops for s in used}) < 2:
        return None
    errors = np.array([s.standard_error for s in used])
    weight = errors**-2.0 if np.isfinite(errors).all() and (errors > 0).all() else np.ones(errors.size)
    x, y = np.log([s.flops for s in used]), np.log([s.params for s in used])
    slope, intercept = weighted_line(x, y[None], (weight / weight.max())[None])
    return Allocation(float(slope[0]), float(intercept[0]), len(used), flops_per_param_token)


def adjusted_loss(data: SurfacePoints, groups: NDArray[np.intp], surface: Surface) -> FloatArray:
    """Losses moved along the surface, at the run's own size, from its C to the C of its budget, shape (n,)."""
    tokens = data.tokens * group_flops(data.flops, groups)[groups] / data.flops
    return np.asarray(data.loss + surface.loss(data.params, tokens) - surface.loss(data.params, data.tokens))


def group_flops(flops: FloatArray, groups: NDArray[np.intp]) -> FloatArray:
    """Geometric mean of C per budget, shape (budgets,)."""
    return np.asarray(np.exp(np.bincount(groups, weights=np.log(flops)) / np.bincount(groups)))


def _budgets(flops: FloatArray, tolerance: float) -> NDArray[np.intp]:
    order = np.argsort(flops, kind="stable")
    groups = np.empty(flops.size, dtype=np.intp)
    groups[order] = budget_groups(flops[order], tolerance)
    return groups


def _fit_all(
    data: SurfacePoints,
    groups: NDArray[np.intp],
    loss: FloatArray,
    method: SliceMethod,
    shape: tuple[float, float] | None,
) -> list[Vertices | None]:
    """The vertex of every budget, None where it has too few sizes."""
    basis = np.array([shape]) if method == "shape" else None
    found: list[Vertices | None] = []
    for g in range(groups.max() + 1):
        mine = groups == g
        if np.unique(data.params[mine]).size < LEAST_SIZES:
            found.append(None)
        else:
            ones = np.ones((1, int(mine.sum())))
            found.append(find_vertices(np.log(data.params[mine]), loss[None, mine], ones, basis))
    return found


def _pooled(found: list[Vertices | None], groups: NDArray[np.intp]) -> float:
    counts = np.bincount(groups)
    rss = sum(float(v.rss[0]) for v in found if v is not None)
    freedom = sum(int(counts[g]) - 3 for g, v in enumerate(found) if v is not None)
    return math.sqrt(rss / freedom) if freedom > 0 else math.nan


def _describe(
    data: SurfacePoints,
    mine: NDArray[np.bool_],
    vertex: Vertices | None,
    method: SliceMethod,
    shape: tuple[float, float] | None,
    sigma: float,
) -> Slice:
    if vertex is None:
        return _no_slice(data, mine, ("few_sizes",))
    x, loss = np.log(data.params[mine]), data.loss[mine]
    at = float(vertex.log_params[0])
    flags = failed_checks(x, loss, vertex, method, shape, sigma)
    if math.isnan(at):
        return _no_slice(data, mine, flags)
    flops = float(group_flops(data.flops[mine], np.zeros(x.size, dtype=np.intp))[0])
    params = math.exp(at)
    error = sigma * float(vertex.unit_error[0])
    shift = parabola_shift(*shape, x - _true_optimum(x, at, shape)) if method == "parabola" and shape else None
    return Slice(
        flops=flops,
        n=x.size,
        sizes=int(np.unique(x).size),
        params_range=(math.exp(x.min()), math.exp(x.max())),
        params=params,
        tokens=flops / (data.flops_per_param_token * params),
        loss=float(vertex.loss[0]),
        curvature=float(vertex.curvature[0]),
        standard_error=error,
        shift=shift,
        flags=flags,
        used=not set(flags) & set(EXCLUDING),
    )


def _true_optimum(x: FloatArray, vertex: float, shape: tuple[float, float]) -> float:
    """The ln N* at which the parabola's shift explains its vertex; a few rounds of substitution."""
    at = vertex
    for _ in range(30):
        at = vertex - parabola_shift(*shape, x - at)
    return at


def _no_slice(data: SurfacePoints, mine: NDArray[np.bool_], flags: tuple[str, ...]) -> Slice:
    nan, params = math.nan, data.params[mine]
    flops = math.exp(float(np.log(data.flops[mine]).mean()))
    extent = (float(params.min()), float(params.max()))
    return Slice(
        flops, params.size, int(np.unique(params).size), extent, nan, nan, nan, nan, nan, None, flags, used=False
    )
