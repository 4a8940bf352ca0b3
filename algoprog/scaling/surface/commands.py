"""What ``algoprog fit --law surface`` computes, and the JSON that it prints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from algoprog.scaling.errors import InputError
from algoprog.scaling.runs.load import load_runs
from algoprog.scaling.surface.fit import SurfaceLoss, check_objective
from algoprog.scaling.surface.study import SurfaceAnalysis, SurfaceStudy, analyse_surfaces

NEEDED = ("params", "tokens", "loss")
OFFERED = ("huber", "lad", "squared")
NAMES = {"E": "E", "A": "A", "B": "B", "alpha": "alpha", "beta": "beta", "a": "a_N", "b": "b_D", "gamma": "gamma"}
"""Keys of the JSON, and what they are called on a ``Surface``."""


def fit_surfaces(
    runs: str | Path,
    loss: str = "huber",
    delta: float | None = None,
    draws: int = 1000,
    seed: int = 0,
    *,
    mapping: Mapping[str, str],
    units: Mapping[str, str],
    min_flops: float = 0.0,
    max_flops: float = math.inf,
) -> SurfaceStudy:
    """Read ``runs`` (``arch`` and ``flops`` may be absent) and fit a surface per architecture."""
    if loss not in OFFERED:
        raise InputError("unknown objective", where="--loss", got=loss, expected=", ".join(OFFERED))
    check_objective(loss, delta)
    points = load_runs(runs, mapping, units=units, required=NEEDED)
    chosen = cast(SurfaceLoss, loss)
    return analyse_surfaces(points, chosen, delta, draws, seed, min_flops=min_flops, max_flops=max_flops)


def study_json(study: SurfaceStudy) -> dict[str, Any]:
    """The object of the one architecture, or ``{"law": "surface", "surfaces": [one object each]}``."""
    objects = [surface_json(found) for found in study.surfaces]
    return objects[0] if len(objects) == 1 else {"law": "surface", "surfaces": objects}


def surface_json(found: SurfaceAnalysis) -> dict[str, Any]:
    """The surface, its frontier and its intervals; numbers are None where no surface is defined."""
    fit, boot, data = found.fit, found.boot, found.fit.points
    surface = fit.surface
    frontier = None if surface is None else {"E": surface.E, "A": surface.K, "alpha": surface.gamma}
    return {
        "law": "surface",
        "arch": found.arch,
        **{key: None if surface is None else getattr(surface, name) for key, name in NAMES.items()},
        "G0": None if surface is None else surface.G0,
        "frontier": frontier,
        "sigma": fit.sigma,
        "sigma_mad": fit.sigma_mad,
        "n": fit.n,
        "runs": fit.runs,
        "points_per_run": fit.points_per_run,
        "run_correlation": fit.run_correlation,
        "status": fit.status.value,
        "intervals": {key: boot.intervals[name] for key, name in NAMES.items()},
        "profile": {"E": boot.profile.interval if boot.profile else None},
        "loss": fit.loss,
        "delta": fit.delta,
        "objective": fit.objective,
        "reason": fit.reason,
        "starts": fit.starts,
        "agreeing": fit.agreeing,
        "sizes": data.sizes,
        "token_counts": data.token_counts,
        "budgets": data.budgets,
        "params_range": data.params_range,
        "tokens_range": data.tokens_range,
        "flops_range": data.flops_range,
        "excluded": dict(data.excluded),
        "bootstrap": {
            "method": boot.method,
            "draws": boot.draws,
            "seed": boot.seed,
            "level": boot.level,
            "status": boot.status_counts,
            "unstable": boot.unstable,
        },
        "warnings": list(found.warnings),
    }
