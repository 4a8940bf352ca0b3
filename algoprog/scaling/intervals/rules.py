"""The run-level bootstrap under a frontier rule other than final points: the rule is applied anew in every draw.

Runs are drawn with replacement within the architecture, whole: a run takes all its logged points along. Applying a rule
costs 0.1 s (envelope) to 0.3 s (a fit first) per draw, so at most :data:`MOST_DRAWS` are made; the result says how many.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.fit import FrontierFit
from algoprog.scaling.frontier import frontier_by_rule
from algoprog.scaling.intervals.bootstrap import Bootstrap, refit_samples
from algoprog.scaling.intervals.resample import Sample
from algoprog.scaling.laws import FloatArray

MOST_DRAWS = {"envelope": 500, "slices": 200, "surface": 200}


def bootstrap_rule(
    points: pd.DataFrame,
    rule: str,
    fit: FrontierFit,
    draws: int = 1000,
    seed: int = 0,
    *,
    tolerance: float,
    level: float = 0.95,
) -> Bootstrap:
    """Draws of ``fit``, which was fitted to the frontier of ``points`` by ``rule``.

    ``points``: all rows as from ``load_runs``, with ``run``. A draw whose runs the rule cannot use is a failed draw.
    Raises InputError for ``draws < 1``.
    """
    if draws < 1:
        raise InputError("bad bootstrap", got=f"draws {draws}", expected="draws >= 1")
    draws = min(draws, MOST_DRAWS.get(rule, draws))
    rng = np.random.default_rng(seed)
    tables = [_draw_frontier(points, rule, fit, tolerance, rng) for _ in range(draws)]
    samples = [_stack([table.get(arch) for table in tables], np.log(fit.laws[arch].C0)) for arch in fit.archs]
    how = {arch: f"cluster bootstrap of runs, {rule} anew in each draw" for arch in fit.archs}
    return refit_samples(fit, samples, how, draws, seed, level)


def _draw_frontier(
    points: pd.DataFrame, rule: str, fit: FrontierFit, tolerance: float, rng: np.random.Generator
) -> dict[str, FloatArray]:
    """ln C and ln L, shape (2, n), of the frontier of one draw by architecture; empty if there is none."""
    parts = []
    for arch in fit.archs:
        rows = points[points["arch"] == arch].reset_index(drop=True)
        members = rows.groupby("run", sort=True).indices
        names = sorted(members, key=str)
        for copy, pick in enumerate(rng.integers(len(names), size=len(names))):
            # A run drawn twice is two runs: equal names would read as one run with conflicting rows.
            parts.append(rows.iloc[members[names[pick]]].assign(run=f"{arch} {copy}"))
    try:
        frontier = frontier_by_rule(pd.concat(parts, ignore_index=True), rule, tolerance=tolerance).rows
    except InputError:
        return {}
    return {
        str(arch): np.log(rows[["flops", "loss"]].to_numpy(dtype=np.float64).T)
        for arch, rows in frontier.groupby("arch")
    }


def _stack(found: list[FloatArray | None], log_c0: float) -> Sample:
    """Frontiers of unequal length as one sample; what is missing has weight 0."""
    longest = max((part.shape[1] for part in found if part is not None), default=1)
    log_flops, log_loss = np.full((len(found), longest), log_c0), np.zeros((len(found), longest))
    weight = np.zeros((len(found), longest))
    for row, part in enumerate(found):
        if part is not None:
            n = part.shape[1]
            log_flops[row, :n], log_loss[row, :n], weight[row, :n] = part[0], part[1], 1.0
    return Sample(log_flops, log_loss, weight)
