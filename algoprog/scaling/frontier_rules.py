"""The four frontier rules behind ``frontier_by_rule``, each with what it is known to get wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from algoprog.scaling.envelope import envelope_biases, envelope_frontier, winners_curse
from algoprog.scaling.errors import InputError
from algoprog.scaling.frontier import RuleFrontier, budget_groups, check_points, final_frontier
from algoprog.scaling.isoflop.slices import isoflop_slices
from algoprog.scaling.runs.load import final_points
from algoprog.scaling.surface.fit import fit_surface
from algoprog.scaling.tuning.searches import without_search

COLUMNS = ["arch", "flops", "loss"]


def _counts(table: pd.DataFrame, column: str | None = None) -> dict[str, int]:
    parts = table.groupby("arch")
    found = parts.size() if column is None or column not in table else parts[column].nunique()
    return {str(arch): int(number) for arch, number in found.items()}


def _finished(points: pd.DataFrame) -> pd.DataFrame:
    final = final_points(points)
    if final.empty:
        raise InputError("no finished run for a frontier", expected="runs whose state is done")
    check_points(final)
    return final


def _final(points: pd.DataFrame, tolerance: float) -> RuleFrontier:
    final = _finished(points)
    rows = final_frontier(without_search(final, tolerance), tolerance)
    rivals = int(np.median(rows["budget_runs"]))
    curse = (
        f"Winner's curse: the best of {rivals} runs of a budget is low by chance, by up to {winners_curse(rivals):.3g} "
        "times the noise of one run."
    )
    biases = (
        "Runs with a fixed ratio of tokens to parameters are not compute-optimal, and the excess changes with compute.",
        *((curse,) if rivals > 1 else ()),
    )
    return RuleFrontier(rows, "final", biases, _counts(final), _counts(final))


def _envelope(points: pd.DataFrame, tolerance: float) -> RuleFrontier:
    logged = points[points["loss"].notna() & points["flops"].notna()] if set(COLUMNS) <= set(points) else points
    rows = envelope_frontier(logged)
    rivals = int(np.median([_rivals(logged, arch) for arch in sorted(set(rows["arch"]))]))
    runs = {str(arch): int(part["arch_runs"].iloc[0]) for arch, part in rows.groupby("arch")}
    counts = {str(arch): int(part["arch_points"].iloc[0]) for arch, part in rows.groupby("arch")}
    return RuleFrontier(rows, "envelope", envelope_biases(rivals), runs, counts)


def _rivals(points: pd.DataFrame, arch: str) -> int:
    """Runs of ``arch`` that were still training at the median compute of its points."""
    mine = points[points["arch"] == arch]
    middle = float(mine["flops"].median())
    spans = mine.groupby("run")["flops"].agg(["min", "max"])
    return int(((spans["min"] <= middle) & (spans["max"] >= middle)).sum())


def _slices(points: pd.DataFrame, tolerance: float) -> RuleFrontier:
    final = _finished(points)
    parts, biases = [], ["Slices: one value per budget, so few points and wide intervals; the shape is the surface's."]
    for arch, rows in final.groupby("arch", sort=True):
        found = isoflop_slices(rows, tolerance=tolerance)
        frontier = found.frontier(str(arch))
        parts.append(frontier.assign(arch_runs=len(rows)))
        biases += [f"{arch}: {warning}" for warning in found.warnings]
    return RuleFrontier(_joined(parts, "slices"), "slices", tuple(biases), _counts(final), _counts(final))


def _surface(points: pd.DataFrame, tolerance: float) -> RuleFrontier:
    final = _finished(points)
    parts = []
    biases = ["Model form: the frontier is exactly a power law because the surface is one; residuals say nothing."]
    for arch, rows in final.groupby("arch", sort=True):
        fit = fit_surface(rows)
        if fit.surface is None:
            biases.append(f"{arch}: no surface, {fit.reason}.")
            continue
        if fit.status.value != "converged":
            biases.append(f"{arch}: the surface fit ended as {fit.status.value}.")
        flops = np.sort(fit.points.flops)
        budgets = flops[np.unique(budget_groups(flops, tolerance), return_index=True)[1]]
        table = pd.DataFrame({"arch": str(arch), "flops": budgets, "loss": fit.surface.frontier.loss(budgets)})
        parts.append(table.assign(arch_runs=fit.runs))
    return RuleFrontier(_joined(parts, "surface"), "surface", tuple(biases), _counts(final), _counts(final))


def _joined(parts: list[pd.DataFrame], rule: str) -> pd.DataFrame:
    found = [part for part in parts if len(part)]
    if not found:
        expected = "at least one budget with a bracketed minimum" if rule == "slices" else "at least five runs"
        raise InputError(f"the rule {rule} found no frontier in these runs", where="--points", expected=expected)
    return pd.concat(found, ignore_index=True)


RULES: dict[str, Callable[[pd.DataFrame, float], RuleFrontier]] = {
    "final": _final,
    "envelope": _envelope,
    "slices": _slices,
    "surface": _surface,
}
