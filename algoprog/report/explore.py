"""The numbers behind the interactive chart: laws and gains under every FLOP convention and value of E that it offers.

Everything is fitted here, beforehand. The page only evaluates ``L = E + a (C/C0)^-alpha`` and looks up what is below: every
position of its controls is one of these settings, so no number on it is interpolated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from algoprog.report.chain import chain_at, shares_told, step_names
from algoprog.report.record import Record, dig
from algoprog.report.style import PLOTLY_SYMBOLS, looks
from algoprog.scaling import Analysis, FrontierFit, InputError, final_frontier, final_points, fit_frontiers, load_runs
from algoprog.scaling.ceg import gain_at_loss
from algoprog.scaling.decomposition.estimate import Estimate
from algoprog.scaling.intervals.bootstrap import Bootstrap, bootstrap, percentiles
from algoprog.scaling.laws import FloatArray
from algoprog.scaling.search import Status
from algoprog.scaling.tuning.searches import without_search
from algoprog.sweep.store import FILE

DRAWS = 200
E_VALUES, HIGHEST_E = 9, 0.95  # E from 0 to this part of the lowest loss: nearer to it the logarithm explodes
LOSSES = 25
BAND_POINTS = 24
BEFORE, AFTER = 0.25, 1.0  # decades drawn before the first and after the last point of a law, as in the printed figure
# An architecture with too few points has no law; those of the others are as good as without it.
UNUSABLE = (Status.ABNORMAL, Status.DID_NOT_MOVE)

Json = dict[str, Any]
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class Counted:
    """Final points in one convention: ``points`` with ``run, arch, flops, loss``, their ``frontier``, the ``fit``, E free."""

    name: str
    points: pd.DataFrame
    frontier: pd.DataFrame
    fit: FrontierFit
    boot: Bootstrap


@dataclass(frozen=True, eq=False)
class Asked:
    """What every setting answers: ``archs`` with laws, ``pairs`` with gains at ``losses``, a ``chain`` with its steps."""

    archs: list[str]
    pairs: Pairs
    losses: FloatArray
    chain: tuple[str, ...]


def explorer(folder: Path, analysis: Analysis, record: Record, draws: int = DRAWS, chain: Sequence[str] = ()) -> Json:
    """What the chart needs, as JSON: runs, thresholds of the loss, and per convention and E laws, gains and their bands.

    ``chain``: architectures from old to new whose gain is divided among the steps at every threshold.

    ``draws`` at most are made per setting. A convention in which these runs have no law is listed in ``skipped`` with the
    reason. Numbers have six digits; infinities are ``"inf"`` and ``"-inf"``, what does not exist is null.
    """
    draws, name = min(draws, DRAWS), _convention_of(analysis)
    counted = [Counted(name, analysis.points, analysis.frontier, analysis.fit, analysis.boot)] if analysis.laws else []
    skipped = [] if counted else [[name, analysis.fit.reason]]
    for other in _other_conventions(record, name) if counted else ():
        try:
            counted.append(_count(folder, other, draws))
        except InputError as error:
            skipped.append([other, str(error).replace(str(folder / FILE), "the store,")])
    archs = list(looks(analysis.points["arch"]))
    losses = _thresholds(analysis)
    pairs = [(pair.a, pair.b) for pair in analysis.gains]
    asked = Asked(archs, pairs, losses, tuple(chain) if set(chain) <= set(analysis.fit.laws) else ())
    return {
        "archs": [_arch(arch, analysis) for arch in archs],
        "runs": _runs(analysis.points, archs),
        "losses": [_number(loss) for loss in losses],
        "pairs": [[archs.index(a), archs.index(b)] for a, b in pairs],
        "chain": [archs.index(arch) for arch in asked.chain],
        "steps": list(step_names(asked.chain)),
        "conventions": [_convention(one, _names(analysis.points), asked, draws) for one in counted],
        "skipped": skipped,
        "level": analysis.boot.level,
        "draws": [analysis.boot.draws, draws],
    }


def _convention_of(analysis: Analysis) -> str:
    names = set(analysis.points["flop_convention"]) if "flop_convention" in analysis.points else set()
    return str(names.pop()) if len(names) == 1 else "as stored"


def _other_conventions(record: Record, used: str) -> list[str]:
    """Those that every finished run was counted in."""
    done = [set(dig(run["result"], "flops_by_convention") or ()) for run in record.runs if run["state"] == "done"]
    return sorted(set.intersection(*done) - {used})


def _count(folder: Path, name: str, draws: int) -> Counted:
    points = final_points(load_runs(folder, {f"flops_{name}": "flops"}))
    tuned = without_search(points)
    frontier = final_frontier(tuned)
    fit = fit_frontiers(frontier)
    if not fit.laws:
        raise InputError("no law in this convention", got=fit.reason)
    return Counted(name, points, frontier, fit, bootstrap(tuned, draws=draws, fit=fit))


def _arch(name: str, analysis: Analysis) -> Json:
    look = looks(analysis.points["arch"])[name]
    return {"name": name, "colour": look.colour, "glyph": look.glyph, "symbol": PLOTLY_SYMBOLS[look.marker]}


def _runs(points: pd.DataFrame, archs: list[str]) -> Json:
    """Columns over the finished runs; FLOPs are per convention, in the same order."""
    columns: Json = {"run": _names(points), "arch": [archs.index(str(a)) for a in points["arch"]]}
    for name in ("width", "lr", "seed", "loss"):
        values = points[name] if name in points else [math.nan] * len(points)
        columns[name] = [_number(value) for value in values]
    columns["state"] = [str(state) for state in points["state"]] if "state" in points else ["done"] * len(points)
    return columns


def _thresholds(analysis: Analysis) -> FloatArray:
    """Losses from the highest of the frontier down to a tenth of its span below the lowest."""
    low, high = float(analysis.frontier["loss"].min()), float(analysis.frontier["loss"].max())
    span = (high - low) or 0.1 * low
    return np.linspace(high, low - 0.1 * span, LOSSES)


def _names(points: pd.DataFrame) -> list[str]:
    return [str(run) for run in points["run"]]


def _convention(one: Counted, runs: list[str], asked: Asked, draws: int) -> Json:
    work = dict(zip(_names(one.points), one.points["flops"], strict=True))
    chosen = set(_names(one.frontier))
    free = _setting(one.fit, one.boot, asked) | {"fixed": False}
    held = [_held(one, value, asked, draws) for value in _values_of_e(one.points)]
    return {
        "name": one.name,
        "flops": [_number(work[run]) for run in runs],
        "frontier": [i for i, run in enumerate(runs) if run in chosen],
        "free": free,
        "held": [setting for setting in held if setting is not None],
    }


def _values_of_e(points: pd.DataFrame) -> list[float]:
    top = HIGHEST_E * float(points["loss"].min())
    return [float(f"{value:.3g}") for value in np.linspace(0.0, top, E_VALUES)]


def _held(one: Counted, value: float, asked: Asked, draws: int) -> Json | None:
    """The setting with E held at ``value``, with the objective of the fit that estimates it: what varies is E alone."""
    objective: Any = {"loss": "squared"} if math.isinf(one.fit.knee) else {"loss": "huber", "knee": one.fit.knee}
    fit = fit_frontiers(one.frontier, value, **objective)
    if not fit.laws or fit.status in UNUSABLE:
        return None
    boot = bootstrap(without_search(one.points), value, draws, fit=fit)
    return _setting(fit, boot, asked) | {"fixed": True}


def _setting(fit: FrontierFit, boot: Bootstrap, asked: Asked) -> Json:
    known = [(a, b) for a, b in asked.pairs if a in fit.laws and b in fit.laws]
    divided = asked.chain if set(asked.chain) <= set(fit.laws) else ()
    return {
        "E": _number(fit.E),
        "E_interval": _ends(percentiles(boot.E[~np.isnan(boot.E)], boot.level)) if boot.archs else None,
        "laws": [_law(fit, boot, arch) if arch in fit.laws else None for arch in asked.archs],
        "pairs": [_pair(fit, boot, pair, asked.losses) if pair in known else None for pair in asked.pairs],
        "chain": [_chain(fit, boot, divided, float(loss)) for loss in asked.losses] if divided else [],
        "unstable": boot.unstable,
    }


def _law(fit: FrontierFit, boot: Bootstrap, arch: str) -> Json:
    law, draws, (first, last) = fit.laws[arch], boot.law(arch), fit.flops_range[arch]
    grid = np.geomspace(first / 10**BEFORE, last * 10**AFTER, BAND_POINTS)
    band: list[tuple[float, float] | None] = [None] * BAND_POINTS
    if draws.E.size:
        with np.errstate(over="ignore"):
            columns = [draws.E + np.exp(draws.log_reducible(np.asarray(x))) for x in np.log(grid)]
        band = [percentiles(column, boot.level) for column in columns]
    return {
        "alpha": _estimate(law.alpha, percentiles(draws.alpha, boot.level)),
        "E": _number(law.E),
        "a": _number(law.a),
        "C0": _number(law.C0),
        "from": _number(first),
        "to": _number(last),
        "grid": [_number(x) for x in grid],
        "low": [None if ends is None else _number(ends[0]) for ends in band],
        "high": [None if ends is None else _number(ends[1]) for ends in band],
    }


def _pair(fit: FrontierFit, boot: Bootstrap, pair: tuple[str, str], losses: FloatArray) -> Json:
    """Gap of exponents, factor per decade of compute, and ``[gain, low, high, in range]`` at every threshold."""
    (old, new), (old_law, new_law) = (fit.laws[arch] for arch in pair), (boot.law(arch) for arch in pair)
    with np.errstate(over="ignore"):
        factors = np.power(10.0, new_law.alpha / old_law.alpha - 1.0)
    return {
        "gap": _estimate(new.alpha - old.alpha, percentiles(new_law.alpha - old_law.alpha, boot.level)),
        "per_decade": _estimate(10.0 ** (new.alpha / old.alpha - 1.0), percentiles(factors, boot.level)),
        "gains": [_gain(fit, boot, pair, float(loss)) for loss in losses],
    }


def _gain(fit: FrontierFit, boot: Bootstrap, pair: tuple[str, str], loss: float) -> list[Any] | None:
    if loss <= fit.E:
        return None  # neither law ever reaches it
    gain = gain_at_loss(fit, *pair, loss, boot=boot)
    return [*_estimate(gain.gain, gain.interval), gain.in_range]


def _chain(fit: FrontierFit, boot: Bootstrap, stages: Sequence[str], loss: float) -> Json | None:
    """The steps where the last stage spends what its law needs for ``loss``: factors, and shares where there is a gain."""
    if loss <= fit.E:
        return None
    flops = fit.laws[stages[-1]].compute(loss)
    if not math.isfinite(flops):
        return None
    found = chain_at(fit, boot, stages, flops)
    told = shares_told(found.total)
    return {
        "flops": _number(flops),
        "total": _ended(found.total),
        "factors": [_ended(found.factors[name]) for name in step_names(stages)],
        "shares": [_ended(found.shares[name]) for name in step_names(stages)] if told else None,
        "in_range": found.in_range,
    }


def _ended(one: Estimate) -> list[Any]:
    return _estimate(one.value, one.interval)


def _estimate(value: float, interval: tuple[float, float] | None) -> list[Any]:
    return [_number(value), *(_ends(interval) or (None, None))]


def _ends(interval: tuple[float, float] | None) -> list[Any] | None:
    return None if interval is None else [_number(end) for end in interval]


def _number(value: float | None) -> float | int | str | None:
    if value is None or math.isnan(value):
        return None
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e6 else rounded


def embedded(values: Mapping[str, Any]) -> str:
    """``values`` as JSON for the inside of a script element: no text of a file can end the element or open a comment."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
