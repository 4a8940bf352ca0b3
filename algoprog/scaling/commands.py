"""What the commands ``algoprog fit`` and ``algoprog ceg`` compute, and the JSON that they print.

JSON has no infinity and no NaN: infinity becomes the string ``"inf"`` or ``"-inf"``, NaN and a missing interval null.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from algoprog.scaling.ceg import Anchor, Gain, gain_at_flops, gain_at_loss
from algoprog.scaling.errors import InputError
from algoprog.scaling.fit import Irreducible
from algoprog.scaling.runs.load import load_runs, require_arch
from algoprog.scaling.runs.units import parse_units
from algoprog.scaling.study import Analysis, LawRow, analyse
from algoprog.scaling.study_sources import sources_json, with_sources
from algoprog.scaling.surface.commands import fit_surfaces, study_json
from algoprog.scaling.surface.study import SurfaceStudy


def fit(
    runs: str | Path,
    law: str = "frontier",
    irreducible: str | None = None,
    draws: int = 1000,
    seed: int = 0,
    mapping: Sequence[str] = (),
    *,
    units: Sequence[str] = (),
    loss: str | None = None,
    delta: float | None = None,
    rule: str | None = None,
    min_flops: float = 0.0,
    max_flops: float = math.inf,
) -> Analysis | SurfaceStudy:
    """Read ``runs`` and fit what ``law`` says. Arguments as on the command line. Raises InputError for bad ones.

    ``irreducible`` (default shared) and ``rule`` (default final) belong to the law ``frontier``, ``loss`` (default
    huber) and ``delta`` to the law ``surface``; the other's are refused, because they would change nothing.
    """
    if law not in ("frontier", "surface"):
        raise InputError("unknown law", where="--law", got=law, expected="frontier or surface")
    given = {"--irreducible": irreducible, "--points": rule} if law == "surface" else {"--loss": loss, "--delta": delta}
    for option, value in given.items():
        if value is not None:
            other = "frontier" if law == "surface" else "surface"
            raise InputError(
                f"does not apply to --law {law}", where=option, got=str(value), remedy=f"drop it, or use --law {other}"
            )
    if not 0 <= min_flops < max_flops:
        got = f"--min-flops {min_flops:g} and --max-flops {max_flops:g}"
        raise InputError("no compute lies between the cuts", got=got, expected="0 <= min < max")
    renamed, known = parse_mapping(mapping), parse_units(units)
    if law == "surface":
        cuts = {"min_flops": min_flops, "max_flops": max_flops}
        return fit_surfaces(runs, loss or "huber", delta, draws, seed, mapping=renamed, units=known, **cuts)
    points = load_runs(runs, renamed, units=known)
    e = parse_irreducible(irreducible or "shared")
    return analyse(points, e, draws, seed, min_flops=min_flops, max_flops=max_flops, rule=rule or "final")


def gain(
    runs: str | Path,
    old: str,
    new: str,
    at_loss: float | None = None,
    at_flops: float | None = None,
    anchor: str = "new",
    irreducible: str = "shared",
    draws: int = 1000,
    seed: int = 0,
    mapping: Sequence[str] = (),
    *,
    units: Sequence[str] = (),
) -> Gain:
    """The gain of ``new`` over ``old`` at a loss or at a compute. Raises InputError for bad arguments."""
    if (at_loss is None) == (at_flops is None):
        got = "neither" if at_loss is None else "both"
        raise InputError("say where to compare", got=got, expected="exactly one of --at-loss X and --at-flops C")
    if anchor not in ("new", "old"):
        raise InputError("unknown anchor", where="--anchor", got=anchor, expected="new or old")
    points = load_runs(runs, parse_mapping(mapping), units=parse_units(units))
    for arch in (old, new):
        require_arch(arch, set(points["arch"]))
    found = analyse(points, parse_irreducible(irreducible), draws, seed, pairs=[(old, new)])
    if at_loss is not None:
        return with_sources(found, gain_at_loss(found.fit, old, new, at_loss, boot=found.boot))
    assert at_flops is not None
    side: Anchor = "new" if anchor == "new" else "old"
    return with_sources(found, gain_at_flops(found.fit, old, new, at_flops, side, boot=found.boot))


def parse_irreducible(text: str) -> Irreducible:
    """``shared``, ``profile``, or a number in nats per token."""
    if text == "shared":
        return "shared"
    if text == "profile":
        return "profile"
    try:
        return float(text)
    except ValueError:
        expected = "shared, profile or a number in nats per token"
        raise InputError(
            "bad rule for the irreducible loss", where="--irreducible", got=text, expected=expected
        ) from None


def parse_mapping(items: Sequence[str]) -> dict[str, str]:
    """``["C=flops", "val_loss=loss"]`` -> ``{"C": "flops", "val_loss": "loss"}``."""
    mapping: dict[str, str] = {}
    for item in items:
        theirs, equals, ours = item.rpartition("=")
        if not (theirs and equals and ours):
            raise InputError("bad renaming", where="--map", got=item, expected="theirs=ours, for example C=flops")
        if theirs in mapping:
            raise InputError(f"column {theirs} renamed twice", where="--map", got=item)
        mapping[theirs] = ours
    return mapping


def fit_json(analysis: Analysis | SurfaceStudy) -> dict[str, Any]:
    """One object per command. Of frontier laws ``laws`` holds one object per architecture, A for C0 = 1 FLOP:
    ``L = E + A C^-alpha``; of surfaces see ``study_json``."""
    if isinstance(analysis, SurfaceStudy):
        return plain(study_json(analysis))
    result = analysis.fit
    return plain(
        {
            "law": "frontier",
            "laws": [law_json(row) for row in analysis.laws],
            "irreducible": {"rule": result.irreducible, "E": result.E, "profile": result.E_interval},
            "status": result.status.value,
            "sigma": result.sigma,
            "objective": result.reason,
            "bootstrap": {
                "draws": analysis.boot.draws,
                "seed": analysis.boot.seed,
                "level": analysis.boot.level,
                "status": analysis.boot.status_counts,
                "unstable": analysis.boot.unstable,
            },
            "flop_convention": _convention(analysis),
            "frontier_rule": {"rule": analysis.rule, "biases": list(analysis.biases)},
            "sources": [sources_json(one) for one in analysis.sources],
            "excluded": analysis.excluded,
            "warnings": list(analysis.warnings),
        }
    )


def law_json(row: LawRow) -> dict[str, Any]:
    """``{"arch", "E", "A", "alpha", "n_points", "n_runs", "intervals", "flops_range"}``."""
    return plain(
        {
            "arch": row.arch,
            "E": row.law.E,
            "A": row.law.A,
            "alpha": row.law.alpha,
            "n_points": row.n_points,
            "n_runs": row.n_runs,
            "intervals": {"E": row.E, "A": row.A, "alpha": row.alpha},
            "flops_range": row.flops_range,
        }
    )


def _convention(analysis: Analysis) -> str | None:
    """The one FLOP convention of the runs, where their table names it."""
    return str(analysis.points["flop_convention"].iloc[0]) if "flop_convention" in analysis.points else None


def gain_json(gain: Gain) -> dict[str, Any]:
    """``{"gain", "interval", "in_range", "anchor", "method", "loss", "flops", "sources"}``."""
    names = ("gain", "interval", "in_range", "anchor", "method", "loss", "flops")
    sources = None if gain.sources is None else sources_json(gain.sources)
    return plain({name: getattr(gain, name) for name in names} | {"sources": sources})


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` with numbers that JSON knows (module docstring); tuples become lists."""
    return {name: _plain(part) for name, part in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
