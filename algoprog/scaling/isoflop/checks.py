"""Is the minimum of a slice bracketed? Checks recorded with every slice."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from algoprog.scaling.isoflop.bias import slice_shape
from algoprog.scaling.isoflop.vertex import Vertices
from algoprog.scaling.laws import FloatArray

SliceMethod = Literal["shape", "parabola"]
LEAST_SIZES = 3  # distinct sizes without which a slice has no vertex
ENOUGH_SIZES, EACH_SIDE = 5, 2
WIDEST = math.log(4.0)  # half-width of a parabola, beyond which its truncation counts
RISE = 3.0  # sigma

FLAGS = {
    "few_sizes": "fewer than 5 distinct sizes",
    "no_minimum": "no minimum: the curvature is not positive",
    "edge": "the best run has the smallest or the largest size",
    "one_sided": "fewer than 2 points on one side of the vertex",
    "wide": "wider than a factor of 4 to each side, too wide for a parabola",
    "off_centre": "the vertex is further than a quarter of the range from its centre",
    "flat": "the loss rises by less than 3 sigma at one end",
}
"""What can be wrong with a slice. ``no_minimum`` and ``edge`` exclude it, and so do fewer than 3 sizes."""
EXCLUDING = ("no_minimum", "edge")


def failed_checks(
    x: FloatArray,
    loss: FloatArray,
    vertex: Vertices,
    method: SliceMethod,
    shape: tuple[float, float] | None,
    sigma: float,
) -> tuple[str, ...]:
    """Names of the checks that the slice of ``loss`` (n,) over ``x`` = ln N (n,) fails; ``sigma`` in nats."""
    at, half, centre = float(vertex.log_params[0]), 0.5 * float(np.ptp(x)), 0.5 * float(x.min() + x.max())
    best = x[int(np.argmin(loss))]
    checks = {
        "few_sizes": np.unique(x).size < ENOUGH_SIZES,
        "no_minimum": math.isnan(at),
        "edge": best in (x.min(), x.max()),
        "wide": method == "parabola" and half > WIDEST * (1 + 1e-9),
    }
    if not math.isnan(at):
        rise = _rise(np.array([x.min(), x.max()]) - at, vertex, method, shape)
        checks |= {
            "one_sided": min(int((x < at).sum()), int((x > at).sum())) < EACH_SIDE,
            "off_centre": abs(at - centre) > 0.5 * half,
            "flat": bool(sigma > 0 and rise.min() <= RISE * sigma),
        }
    return tuple(name for name in FLAGS if checks.get(name))


def _rise(u: FloatArray, vertex: Vertices, method: SliceMethod, shape: tuple[float, float] | None) -> FloatArray:
    """Fitted excess over L* in nats at u = ln(N/N*)."""
    curvature = float(vertex.curvature[0])
    if method == "parabola" or shape is None:
        return np.asarray(0.5 * curvature * u**2)
    return slice_shape(u, *shape) * curvature / (shape[0] * shape[1])
