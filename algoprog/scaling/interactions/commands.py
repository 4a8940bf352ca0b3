"""What the command ``algoprog interactions`` computes, and the JSON that it prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from algoprog.scaling.commands import parse_irreducible, parse_mapping, plain
from algoprog.scaling.errors import InputError
from algoprog.scaling.interactions.analysis import Reference, factorial
from algoprog.scaling.interactions.result import Cell, Effect, FactorialAnalysis, RateSearches
from algoprog.scaling.laws import LogLaw, PowerLaw
from algoprog.scaling.runs.load import REQUIRED, load_runs, require_arch
from algoprog.scaling.runs.units import parse_units
from algoprog.scaling.study import analyse


@dataclass(frozen=True)
class Conversion:
    """How a loss becomes a gain, exactly one of three ways.

    A reference law fitted to ``law_runs`` (our column names) for ``law_arch``; a law with a stated ``exponent``
    (``irreducible`` is then a number); ``at_loss`` on training curves, a number or ``common``.
    """

    law_runs: str | Path | None = None
    law_arch: str | None = None
    exponent: float | None = None
    at_loss: str | None = None
    irreducible: str = "shared"


def interactions(
    runs: str | Path,
    factors: Sequence[str],
    conversion: Conversion,
    reference: str = "new",
    order: int | None = None,
    draws: int = 1000,
    seed: int = 0,
    mapping: Sequence[str] = (),
    *,
    units: Sequence[str] = (),
) -> FactorialAnalysis:
    """Read ``runs`` and analyse them as a factorial ablation. Arguments as on the command line.

    Raises InputError for bad ones.
    """
    levels = parse_factors(factors)
    law, law_draws, law_range, at_loss = _conversion(conversion, draws, seed)
    keep = [name for name in levels if name not in REQUIRED]
    points = load_runs(runs, parse_mapping(mapping), units=parse_units(units), keep=keep, required=("flops", "loss"))
    return factorial(
        points, levels, law=law, law_draws=law_draws, law_range=law_range, at_loss=at_loss,
        reference=_reference(reference), order=order, draws=draws, seed=seed,
    )  # fmt: skip


def parse_factors(items: Sequence[str]) -> dict[str, tuple[str, str]]:
    """``["activation=gelu,swiglu"]`` -> ``{"activation": ("gelu", "swiglu")}``, old level first."""
    factors: dict[str, tuple[str, str]] = {}
    for item in items:
        name, _, levels = item.partition("=")
        pair = [level.strip() for level in levels.split(",")]
        if not name or len(pair) != 2 or not all(pair):
            expected = "name=old,new, for example activation=gelu,swiglu"
            raise InputError("bad factor", where="--factor", got=item, expected=expected)
        if name in factors:
            raise InputError(f"factor {name} given twice", where="--factor", got=item)
        factors[name] = (pair[0], pair[1])
    return factors


def _reference(name: str) -> Reference:
    if name == "new":
        return "new"
    if name == "old":
        return "old"
    raise InputError("unknown reference", where="--reference", got=name, expected="new or old")


Law = tuple[PowerLaw | None, LogLaw | None, tuple[float, float] | None, float | Literal["common"] | None]


def _conversion(way: Conversion, draws: int, seed: int) -> Law:
    """The reference law, its draws and its range, or the loss to cut curves at."""
    given = [name for name in ("law_runs", "exponent", "at_loss") if getattr(way, name) is not None]
    if len(given) != 1:
        got = " and ".join("--" + name.replace("_", "-") for name in given) or "neither"
        expected = "exactly one of --law-runs FILE, --exponent ALPHA and --at-loss LOSS"
        raise InputError("say how a loss becomes a gain", got=got, expected=expected)
    if way.law_arch is not None and way.law_runs is None:
        raise InputError("an architecture without runs to fit it to", where="--law-arch", remedy="add --law-runs FILE")
    if way.at_loss is not None:
        return None, None, None, _loss(way.at_loss)
    rule = parse_irreducible(way.irreducible)
    if way.exponent is not None:
        if isinstance(rule, str):
            raise InputError("a stated exponent needs its E", where="--exponent", remedy="add --irreducible VALUE")
        return PowerLaw(rule, 1.0, way.exponent), None, None, None
    assert way.law_runs is not None
    points = load_runs(way.law_runs)
    known = set(points["arch"])
    arch = way.law_arch or (next(iter(known)) if len(known) == 1 else None)
    if arch is None:
        got = f"{len(known)} architectures"
        raise InputError("which law?", where="--law-runs", got=got, remedy="add --law-arch NAME")
    require_arch(arch, known)
    found = analyse(points, rule, draws, seed)
    if arch not in found.fit.laws:
        raise InputError(f"no law for {arch}", where=way.law_runs, got=found.fit.reason)
    boot = found.boot.law(arch)
    return found.fit.laws[arch], boot if boot.E.size else None, found.fit.flops_range[arch], None


def _loss(text: str) -> float | Literal["common"]:
    if text == "common":
        return "common"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError("bad loss", where="--at-loss", got=text, expected="common, or a number > 0 in nats per token")
    return value


def interactions_json(found: FactorialAnalysis) -> dict[str, Any]:
    """One object: ``effects``, ``product`` (predicted, measured, excess), ``cells``, and what they rest on."""
    return plain(
        {
            "factors": {name: list(pair) for name, pair in found.factors.items()},
            "reference": found.reference,
            "effects": [_effect(effect) for effect in found.effects],
            "product": {
                "singles": [_effect(effect) for effect in found.product.singles],
                "predicted": _effect(found.product.predicted),
                "measured": _effect(found.product.measured),
                "excess": _effect(found.product.excess),
            },
            "cells": [_cell(cell) for cell in found.cells],
            "missing": [dict(levels) for levels in found.missing],
            "assumed_zero": list(found.assumed_zero),
            "method": found.method,
            "conversion": found.conversion,
            "sigma": found.sigma,
            "degrees_of_freedom": found.degrees_of_freedom,
            "level": found.level,
            "budgets": list(found.budgets),
            "by_budget": [interactions_json(part) for part in found.by_budget],
            "excluded": dict(found.excluded),
            "learning_rates": None if found.rates is None else _rates(found.rates),
            "warnings": list(found.warnings),
        }
    )


def _rates(rates: RateSearches) -> dict[str, Any]:
    return {
        "searches": rates.searches,
        "without_optimum": rates.without_optimum,
        "left": rates.left,
        "log_gain_at_optimal": dict(rates.at_optimal),
    }


def _effect(effect: Effect) -> dict[str, Any]:
    names = ("name", "log_gain", "interval", "gain", "gain_interval")
    return {name: getattr(effect, name) for name in names}


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "levels": dict(cell.levels),
        "runs": cell.runs,
        "log_gain": cell.log_gain,
        "interval": cell.interval,
        "status": cell.status,
    }
