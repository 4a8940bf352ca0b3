"""What the command ``algoprog breaks`` computes, and the JSON that it prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from algoprog.scaling.breakpoints.breaks import BreakTest, Evidence, break_test
from algoprog.scaling.breakpoints.extrapolation import TOLERANCE, Cut, Extrapolation, extrapolate
from algoprog.scaling.breakpoints.licensing import Licence, earned, licence
from algoprog.scaling.breakpoints.words import break_sentence, break_warnings, extrapolation_sentence
from algoprog.scaling.commands import parse_mapping, plain
from algoprog.scaling.errors import InputError
from algoprog.scaling.frontier import final_frontier
from algoprog.scaling.laws import PowerLaw
from algoprog.scaling.runs.load import excluded_runs, final_points, load_runs, require_arch
from algoprog.scaling.runs.units import parse_units
from algoprog.scaling.tuning.searches import without_search


@dataclass(frozen=True, eq=False)
class LawTests:
    """Both tests of one architecture: is it one law, and does it predict? ``licence`` at the compute asked about, if
    any; ``excluded`` counts the runs left out, by reason."""

    test: BreakTest
    extrapolation: Extrapolation
    licence: Licence | None
    excluded: dict[str, int]


def breaks(
    runs: str | Path,
    arch: str,
    tolerance: float = TOLERANCE,
    draws: int = 999,
    seed: int = 0,
    mapping: Sequence[str] = (),
    *,
    units: Sequence[str] = (),
    min_flops: float = 0.0,
    max_flops: float = math.inf,
    target_flops: float | None = None,
) -> LawTests:
    """Read ``runs`` and test the frontier of ``arch``. Arguments as on the command line. Raises InputError for bad ones."""
    if not 0 <= min_flops < max_flops:
        got = f"--min-flops {min_flops:g} and --max-flops {max_flops:g}"
        raise InputError("no compute lies between the cuts", got=got, expected="0 <= min < max")
    table = load_runs(runs, parse_mapping(mapping), units=parse_units(units))
    require_arch(arch, set(table["arch"]))
    own = table[table["arch"] == arch]
    excluded, final = excluded_runs(own), final_points(own)
    if final.empty:
        raise InputError(f"no finished run of {arch}", where=str(runs), expected="runs whose state is done")
    inside = final["flops"].between(min_flops, max_flops)
    if not inside.any():
        raise InputError(f"no run of {arch} inside the cuts", got=f"min {min_flops:g}, max {max_flops:g}")
    if not inside.all():
        excluded["outside the cuts on flops"] = int((~inside).sum())
    frontier = final_frontier(without_search(final[inside]))
    found = extrapolate(frontier, tolerance, draws, seed)
    asked = None if target_flops is None else licence(found, target_flops)
    return LawTests(break_test(frontier, draws, seed), found, asked, excluded)


def breaks_json(found: LawTests) -> dict[str, Any]:
    """One object: ``break`` (the test), ``extrapolation`` (cuts, CUSUM, licence), and what was left out."""
    test = found.test
    return plain(
        {
            "arch": test.arch,
            "n_points": len(test.points),
            "flops_range": test.flops_range,
            "break": _break_json(test),
            "extrapolation": _extrapolation_json(found.extrapolation),
            "target": None if found.licence is None else asdict(found.licence),
            "excluded": found.excluded,
            "warnings": list(break_warnings(test)),
        }
    )


def _break_json(test: BreakTest) -> dict[str, Any]:
    told = {"status": test.status.value, "claimed": test.claimed, "sentence": break_sentence(test)}
    found = test.evidence
    return told | ({} if found is None else _evidence_json(found)) | {"method": test.method}


def _evidence_json(found: Evidence) -> dict[str, Any]:
    return {
        "sup_f": found.sup_f,
        "p_value": found.p_value,
        "p_interval": found.p_interval,
        "critical_5_percent": found.critical,
        "delta_aicc": found.delta_aicc,
        "delta_bic": found.delta_bic,
        "position": asdict(found.position),
        "one_law": _law_json(found.one) | {"sigma": found.sigma, "status": found.one_status.value},
        "two_pieces": asdict(found.two),
        "models": [asdict(model) for model in found.models],
        "detectable_change": {"E_known": found.detectable.known, "E_free": found.detectable.free},
    }


def _law_json(law: PowerLaw) -> dict[str, Any]:
    return {"E": law.E, "A": law.A, "alpha": law.alpha}


def _extrapolation_json(found: Extrapolation) -> dict[str, Any]:
    cut, cusum = earned(found), found.cusum
    return {
        "tolerance": found.tolerance,
        "cuts": [_cut_json(part) for part in found.cuts],
        "failed_cuts": len(found.failed),
        "flags": found.flags,
        "flags_p": found.flags_p,
        "cusum": None
        if cusum is None
        else {
            "flops": cusum.flops.tolist(),
            "value": cusum.value.tolist(),
            "limit": cusum.limit,
            "crossed": cusum.crossed,
        },
        "licence_decades": cut.licence_decades if cut else 0.0,
        "earned_by_flops": cut.flops if cut else None,
        "sentence": extrapolation_sentence(found),
        "method": found.method,
    }


def _cut_json(cut: Cut) -> dict[str, Any]:
    return {
        "flops": cut.flops,
        "n": cut.n,
        "degrees_of_freedom": cut.n - 3,
        "E": cut.E,
        "alpha": cut.alpha,
        "sigma": cut.sigma,
        "status": cut.status.value,
        "fitted_decades": cut.fitted_decades,
        "span_decades": cut.span_decades,
        "verdict": cut.verdict.value,
        "later": [
            {"flops": c, "error": e, "half_width": h, "flagged": f, "counted": k}
            for c, e, h, f, k in zip(
                cut.later_flops.tolist(),
                cut.error.tolist(),
                cut.half_width.tolist(),
                cut.flagged.tolist(),
                cut.counted.tolist(),
                strict=True,
            )
        ],
    }
