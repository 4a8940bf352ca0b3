"""What runs of different architectures share because they saw the same data in the same order.

Two runs *match* if they belong to different architectures and have the same budget, the same rank of size in it, and
the same seed. Matched residuals are correlated: with the seed through the order of the data, with the size grid through
the same distance from the best size. The irreducible loss is shared by all architectures, so what they share does not
average out of it: at a correlation of .6 between three architectures, intervals that ignore it cover 83 to 88 % instead
of 95 % (``docs/coverage.md``).

The residuals ``z`` of a fit with hat matrix P have covariance ``s^2 (I-P) R (I-P)``, ``R = I + rho M``, M the matches.
Equating the ratio of ``z' M z`` to ``z' z`` with its expectation gives rho without the bias of a plain correlation of
residuals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from algoprog.scaling.fit import FrontierFit
from algoprog.scaling.frontier import budget_groups
from algoprog.scaling.laws import FloatArray

HIGHEST = 0.95  # of an estimated correlation
FEWEST = 6  # matched pairs of frontier points below which rho is not estimated
NO_KEY = -1
MATCH = "match"  # the column that holds match_keys


@dataclass(frozen=True, eq=False)
class SharedNoise:
    """``rho``: correlation of matched frontier residuals, 0 where nothing matches; ``pairs``: matched pairs of points.

    ``match`` (n, n) is 1 for matched frontier points, in the order of the frontier's rows with a law; ``jacobian``
    (n, 1 + 2K) holds the derivatives of ln L by E (absent, so (n, 2K), if E is fixed), ln a and alpha at the fit.
    """

    rho: float
    pairs: int
    match: FloatArray
    jacobian: FloatArray

    def scale_factor(self) -> float:
        """By how much ``RSS/(n - p)`` is too small for the variance of one point."""
        n, p = self.jacobian.shape
        hat = self.jacobian @ np.linalg.pinv(self.jacobian)
        freedom = n - p - self.rho * float(np.sum(hat * self.match))
        return (n - p) / freedom if freedom > 0.25 * (n - p) else 4.0

    def variance_factor(self, gradient: FloatArray) -> float:
        """By how much matches change the variance of a quantity; ``gradient`` by the columns of ``jacobian``, (p,)."""
        influence = np.linalg.pinv(self.jacobian).T @ gradient
        own = float(influence @ influence)
        return 1.0 if own == 0 else max(1.0 + self.rho * float(influence @ self.match @ influence) / own, 0.05)


def match_keys(points: pd.DataFrame, tolerance: float) -> NDArray[np.intp]:
    """A number per row of ``points``, equal for rows that match if their architectures differ; -1: matches nothing.

    Without a ``seed`` nothing matches; nor does a run whose budget, size and seed another run of its architecture has.
    """
    nothing = np.full(len(points), NO_KEY, dtype=np.intp)
    if "seed" not in points or points.empty:
        return nothing
    flops = points["flops"].to_numpy(dtype=np.float64)
    order = np.argsort(flops, kind="stable")
    budget = np.empty(flops.size, dtype=np.intp)
    budget[order] = budget_groups(flops[order], tolerance)
    known = pd.DataFrame({"arch": points["arch"].to_numpy(), "budget": budget, "seed": points["seed"].to_numpy()})
    size = next((name for name in ("params", "width") if name in points), None)
    known["size"] = 0.0 if size is None else points[size].to_numpy()
    known["size"] = known.groupby(["arch", "budget"])["size"].rank(method="dense")
    alone = ~known.duplicated(["arch", "budget", "size", "seed"], keep=False) & known.notna().all(axis=1)
    keys = known.groupby(["budget", "size", "seed"]).ngroup().to_numpy(dtype=np.intp)
    return np.where(alone.to_numpy(), keys, NO_KEY)


def with_matches(points: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """``points`` with the column ``match``: to be called on all runs, so that ranks of size compare."""
    return points.assign(**{MATCH: match_keys(points, tolerance)})


def shared_noise(rows: pd.DataFrame, fit: FrontierFit) -> SharedNoise:
    """Estimate the shared noise of a fit from its frontier ``rows``, of architectures with a law only.

    They need the column ``match``, as a frontier of :func:`with_matches` has it; without it nothing matches.
    """
    keys = rows[MATCH].to_numpy(dtype=np.intp) if MATCH in rows else np.full(len(rows), NO_KEY)
    arch = rows["arch"].to_numpy(dtype=object)
    match = ((keys[:, None] == keys[None, :]) & (keys >= 0)[:, None] & (arch[:, None] != arch[None, :])).astype(float)
    jacobian, z = _linearised(rows, fit)
    pairs = int(match.sum()) // 2
    rho = _moment(jacobian, match, z) if pairs >= FEWEST and fit.degrees_of_freedom > 0 else 0.0
    return SharedNoise(rho, pairs, match, jacobian)


def _moment(jacobian: FloatArray, match: FloatArray, z: FloatArray) -> float:
    left = np.eye(z.size) - jacobian @ np.linalg.pinv(jacobian)
    total = float(z @ z)
    if total == 0:
        return 0.0
    seen = float(z @ match @ z) / total
    once, twice = float(np.sum(left * match)), float(np.sum((left @ match) * (left @ match).T))
    slope = twice - seen * once
    return float(np.clip((seen * np.trace(left) - once) / slope, 0.0, HIGHEST)) if slope > 0 else 0.0


def _linearised(rows: pd.DataFrame, fit: FrontierFit) -> tuple[FloatArray, FloatArray]:
    """The Jacobian of ln L at the fit and the residuals of ln L."""
    flops, loss = rows["flops"].to_numpy(dtype=np.float64), rows["loss"].to_numpy(dtype=np.float64)
    arch = rows["arch"].to_numpy(dtype=object)
    own = np.stack([arch == name for name in fit.archs], axis=1).astype(np.float64)
    fitted = np.empty(flops.size)
    x = np.empty(flops.size)
    for name in fit.archs:
        mine = arch == name
        fitted[mine], x[mine] = fit.laws[name].loss(flops[mine]), np.log(flops[mine] / fit.laws[name].C0)
    s = ((fitted - fit.E) / fitted)[:, None] * own
    columns = [s, -s * x[:, None]]
    if isinstance(fit.irreducible, str):
        columns.insert(0, 1.0 / fitted[:, None])
    return np.hstack(columns), np.log(loss / fitted)
