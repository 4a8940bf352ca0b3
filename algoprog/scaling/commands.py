"""What the commands ``algoprog fit --law frontier`` and ``algoprog ceg`` compute, and the JSON that they print.

JSON has no infinity and no NaN: infinity becomes the string ``"inf"`` or ``"-inf"``, NaN and a missing interval null.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from algoprog.scaling.ceg import Gain, gain_at_flops, gain_at_loss
from algoprog.scaling.errors import InputError
from algoprog.scaling.fit import Irreducible
from algoprog.scaling.runs import load_runs, require_arch
from algoprog.scaling.study import Analysis, LawRow, analyse


def fit(
    runs: str | Path,
    law: str = "frontier",
    irreducible: str = "shared",
    draws: int = 1000,
    seed: int = 0,
    mapping: Sequence[str] = (),
) -> Analysis:
    """Read ``runs`` and analyse them. Arguments as on the command line. Raises InputError for bad ones."""
    if law != "frontier":
        raise InputError("this version fits frontier laws only", where="--law", got=law, expected="frontier")
    return analyse(load_runs(runs, parse_mapping(mapping)), parse_irreducible(irreducible), draws, seed)


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
) -> Gain:
    """The gain of ``new`` over ``old`` at a loss or at a compute. Raises InputError for bad arguments."""
    if (at_loss is None) == (at_flops is None):
        got = "neither" if at_loss is None else "both"
        raise InputError("say where to compare", got=got, expected="exactly one of --at-loss X and --at-flops C")
    if anchor not in ("new", "old"):
        raise InputError("unknown anchor", where="--anchor", got=anchor, expected="new or old")
    points = load_runs(runs, parse_mapping(mapping))
    for arch in (old, new):
        require_arch(arch, set(points["arch"]))
    found = analyse(points, parse_irreducible(irreducible), draws, seed, pairs=[(old, new)])
    if at_loss is not None:
        return gain_at_loss(found.fit, old, new, at_loss, boot=found.boot)
    assert at_flops is not None
    return gain_at_flops(found.fit, old, new, at_flops, "new" if anchor == "new" else "old", boot=found.boot)


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


def fit_json(analysis: Analysis) -> dict[str, Any]:
    """One object; ``laws`` holds the contract's object per architecture. A is for C0 = 1: ``L = E + A C^-alpha``."""
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


def gain_json(gain: Gain) -> dict[str, Any]:
    """``{"gain", "interval", "in_range", "anchor", "method", "loss", "flops"}``."""
    names = ("gain", "interval", "in_range", "anchor", "method", "loss", "flops")
    return plain({name: getattr(gain, name) for name in names})


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
