"""All that ``algoprog power`` answers: runs and decades for a gap, where to put runs, and a simulated check."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from algoprog.scaling.commands import plain
from algoprog.scaling.laws import FloatArray
from algoprog.scaling.planning.check import PowerCheck, check_power
from algoprog.scaling.planning.design import Spot, c_optimal, contrast_variance, merge_neighbours, whole_runs
from algoprog.scaling.planning.information import Detectable
from algoprog.scaling.planning.power import (
    GAP,
    GainError,
    GapErrors,
    GapStudy,
    break_seen,
    gain_error,
    gap_errors,
    joint_jacobian,
    largest_in_range_flops,
    points_needed,
)

DECADES = (1.0, 2.0, 3.0, 4.0, 5.0)
CANDIDATES = 121  # budgets per architecture that a design may use


@dataclass(frozen=True)
class PowerRow:
    """One range: standard errors of the gap and the runs per architecture for 80 % power, by what is known of E;
    ``break_seen``: the smallest break of the old law's exponent that is seen."""

    decades: float
    errors: GapErrors
    points: GapErrors
    break_seen: Detectable


@dataclass(frozen=True)
class Placement:
    """The design with the smallest error of the gap, E shared and free. ``spots``: budgets with their share of the runs
    (of the FLOPs, for a budget of FLOPs) and ``runs`` there: whole numbers, or the runs that those FLOPs buy.
    ``variance_ratio``: variance of the gap with equal steps of ln C over that with this design, at the same number of
    runs, or the same FLOPs."""

    spots: tuple[Spot, ...]
    runs: tuple[float, ...]
    variance_ratio: float


@dataclass(frozen=True)
class PowerReport:
    """``rows`` by decades; ``gains``: errors of ln G in the middle and at the largest compute in range (None: never in
    range); ``by_runs`` and ``by_flops``: where to put runs; ``check``: simulated refits."""

    study: GapStudy
    rows: tuple[PowerRow, ...]
    gain_middle: GainError
    gain_largest: GainError | None
    by_runs: Placement
    by_flops: Placement
    total_flops: float
    check: PowerCheck


def power_report(study: GapStudy, refits: int = 200, seed: int = 0) -> PowerReport:
    """Everything about ``study``. Raises InputError for refits < 20."""
    rows = tuple(_row(study.over(decades)) for decades in sorted({*DECADES, study.decades}))
    largest = largest_in_range_flops(study)
    return PowerReport(
        study=study,
        rows=rows,
        gain_middle=gain_error(study, study.middle),
        gain_largest=None if largest is None else gain_error(study, largest),
        by_runs=_placement(study, by_flops=False),
        by_flops=_placement(study, by_flops=True),
        total_flops=2.0 * float(study.flops.sum()),
        check=check_power(study, refits, seed),
    )


def _row(study: GapStudy) -> PowerRow:
    errors = gap_errors(study)
    needed = (points_needed(error, study.points, study.gap) for error in (errors.known, errors.shared, errors.separate))
    return PowerRow(study.decades, errors, GapErrors(*needed), break_seen(study))


def _placement(study: GapStudy, by_flops: bool) -> Placement:
    """c-optimal for the gap over both architectures' candidate budgets."""
    grid = study.flops_min * 10.0 ** np.linspace(0.0, study.decades, CANDIDATES)
    joint = joint_jacobian(study.old, study.new, grid, grid)
    cost: FloatArray | None = np.tile(grid, 2) if by_flops else None
    shares = c_optimal(joint, GAP, cost)
    spots = tuple(
        spot
        for arch, part in (("old", shares[:CANDIDATES]), ("new", shares[CANDIDATES:]))
        for spot in merge_neighbours(arch, grid, part)
    )
    spent = 2.0 * float(study.flops.sum()) if by_flops else 2.0 * study.points
    equal = gap_errors(study).shared ** 2 / study.sigma**2
    best = contrast_variance(joint, GAP, shares, cost) / spent
    if by_flops:
        runs: tuple[float, ...] = tuple(spot.share * spent / spot.flops for spot in spots)
    else:
        runs = tuple(map(float, whole_runs(np.array([spot.share for spot in spots]), 2 * study.points)))
    return Placement(spots, runs, equal / best)


def power_json(report: PowerReport) -> dict[str, Any]:
    """One object; E in nats per token, computes in FLOPs, ln G natural."""
    return plain(
        {
            "study": asdict(report.study),
            "rows": [_row_json(row) for row in report.rows],
            "log_gain": {
                "middle": asdict(report.gain_middle),
                "largest_in_range": None if report.gain_largest is None else asdict(report.gain_largest),
            },
            "c_optimal": {
                "runs": 2 * report.study.points,
                "by_runs": asdict(report.by_runs),
                "flops": report.total_flops,
                "by_flops": asdict(report.by_flops),
            },
            "check": asdict(report.check),
        }
    )


def _row_json(row: PowerRow) -> dict[str, Any]:
    return {
        "decades": row.decades,
        "gap_error": asdict(row.errors),
        "points_per_arch": asdict(row.points),
        "break_seen": {"E_known": row.break_seen.known, "E_free": row.break_seen.free},
    }
