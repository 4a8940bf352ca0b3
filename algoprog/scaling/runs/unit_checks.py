"""Columns that look like another unit: asked about, with the evidence and the option to say; never guessed.

A power law fits any unit without complaint, so a wrong one shows up only as a wrong result. What can be checked from
the outside is checked: training takes about 6 FLOPs per parameter and token (Kaplan et al. 2020, section 2.1), a loss
per token above ln(vocabulary) is worse than a uniform guess, and headers name units. Not every unit can be told: a
loss in bits per token without such a header or a vocabulary looks like a higher loss in nats.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import FloatArray
from algoprog.scaling.runs.columns import plain_name
from algoprog.scaling.runs.units import PER_TOKEN, SCALE, UNITS

APART = 1.5
"""Decades between flops and 6 x params x tokens beyond which a unit is doubted: embeddings left out of params, experts
that are not active, attention and another FLOP convention stay within a factor of 30."""
LARGEST = {"flops": 1e29, "tokens": 1e16, "params": 1e14}
SMALL = {"flops": 1e9, "tokens": 1e5, "params": 1e4}
"""Below this, all runs together, a column is hardly in single units (unless it fits the two others)."""
USUAL = {"flops": (1e12, 1e27), "tokens": (1e6, 1e14), "params": (1e4, 1e13)}
FEWEST, PARTNER = {"tokens": 1e3, "params": 1e2}, {"tokens": "params", "params": "tokens"}
"""Fewer tokens (parameters) than this follow from flops and params (tokens) only if flops are in another unit."""
RARE = {"kiloflops", "megaflops", "thousands", "trillions"}
MOST_NATS = 12.0
SAME = 1e-3

HEADERS = {
    "loss": (
        (r"bpb|bpc|bits?_?per_?(byte|char\w*)", "bits-per-byte"), (r"bits?", "bits"), (r"ppl|perplexity", "perplexity"),
    ),
    "flops": (
        (r"p(eta)?f(lops?)?_?s?_?days?", "pflop-days"), (r"flops?_per_token|flops?_token", PER_TOKEN),
        (r"z(etta)?flops?", "zettaflops"), (r"e(xa)?flops?", "exaflops"), (r"p(eta)?flops?", "petaflops"),
        (r"t(era)?flops?", "teraflops"), (r"g(iga)?flops?", "gigaflops"),
    ),
    "tokens": ((r"millions?|m|mtok\w*", "millions"), (r"billions?|b|bn|btok\w*|gtok\w*", "billions")),
    "params": ((r"millions?|m|mparams?", "millions"), (r"billions?|b|bn|bparams?", "billions")),
}  # fmt: skip


def check_units(final: pd.DataFrame, headers: Mapping[str, str], units: Mapping[str, str], where: str) -> None:
    """Raise InputError, naming suspicion, evidence and the option to say, if a column looks like another unit.

    ``final``: one row per finished run. ``headers``: what the file calls a column, ours -> theirs. ``units``: what was
    stated; those columns are not questioned.
    """
    if not final.empty:
        _check_compute(final, headers, units, where)
        _check_loss(final, headers, units, where)


def _check_compute(final: pd.DataFrame, headers: Mapping[str, str], units: Mapping[str, str], where: str) -> None:
    logs = {name: _log10(final, name) for name in ("flops", "params", "tokens")}
    known = {name: values for name, values in logs.items() if values is not None}
    if len(known) == 3:
        ratio = known["flops"] - math.log10(6.0) - known["params"] - known["tokens"]
        if abs(float(np.median(ratio))) > APART:
            _ask_products(known, ratio, units, where)
        return
    for name, least in FEWEST.items():
        if "flops" in known and name not in known and (other := known.get(PARTNER[name])) is not None:
            implied = 10.0 ** float(np.median(known["flops"] - math.log10(6.0) - other))
            if 0.1 < implied < least and "flops" not in units:
                looks = (
                    f"like FLOPs per token or another unit: it implies {implied:.2g} {name} (flops / 6 {PARTNER[name]})"
                )
                _ask(
                    "flops",
                    headers,
                    where,
                    looks,
                    _span(final["flops"]),
                    f"--unit flops={PER_TOKEN} (with a column tokens)",
                )
    for name, values in known.items():
        # One run of fewer FLOPs is enough to doubt them all: nobody trains a language model with 1e9.
        top = 10.0 ** float(values.max())
        least = values.min() if name == "flops" else values.max()
        hint = _hint(name, headers, top)
        if name not in units and (hint or least < math.log10(SMALL[name])):
            option = f"--unit {name}={hint}" if hint else f"--unit {name}=UNIT with UNIT {_fitting(name, top)}"
            _ask(name, headers, where, f"like {hint}, by its name" if hint else "too small", _span(final[name]), option)


def _fitting(name: str, top: float) -> str:
    """The units that would bring the largest value of a column to what people train."""
    low, high = USUAL[name]
    fitting = [unit for unit in UNITS[name][1:] if unit in SCALE and low <= top * SCALE[unit] <= high]
    return " or ".join([unit for unit in fitting if unit not in RARE] or fitting or UNITS[name][1:])


def _ask_products(known: Mapping[str, FloatArray], ratio: FloatArray, units: Mapping[str, str], where: str) -> None:
    """Flops that do not fit 6 x params x tokens: name the change of units that mends it."""
    # With flops stated, the other two are questioned only if they are implausible by themselves.
    free = [
        name
        for name, values in known.items()
        if name not in units and ("flops" not in units or values.max() < math.log10(SMALL[name]))
    ]
    if not free:
        return
    ranked = sorted((_score(choice, known, ratio), choice) for choice in _choices(known, free))
    best = ranked[0][0] if ranked else math.inf
    likely = [choice for score, choice in ranked if score < best + 0.1][:3]
    ways = [" ".join(f"--unit {name}={unit}" for name, unit in choice if unit != UNITS[name][0]) for choice in likely]
    median = 10.0 ** float(np.median(ratio))
    evidence = ", ".join(f"{name} {10 ** v.min():.3g} to {10 ** v.max():.3g}" for name, v in known.items())
    what = f"flops are {median:.2g} times 6 x params x tokens (median)"
    small = [name for name in free if name == "flops" or known[name].max() < math.log10(SMALL[name])]
    right = " ".join(f"--unit {name}={UNITS[name][0]}" for name in small)
    if best > APART + 1.0:
        remedy = f"state the units with --unit; if all are right as they are: {right}"
    else:
        looks = " or ".join(_said(choice) for choice in likely)
        what += f", which looks like {looks}"
        remedy = f"say {' or '.join(ways)}; if the numbers are right as they are: {right}"
    expected = f"a factor of {10**APART:.0f} at most, in FLOPs, parameters and tokens"
    raise InputError(what, where=where, got=evidence, expected=expected, remedy=remedy)


Choice = tuple[tuple[str, str], ...]


def _choices(known: Mapping[str, FloatArray], free: Sequence[str]) -> list[Choice]:
    """Every combination of units that keeps each column below what exists."""
    options = [
        [(name, unit) for unit in UNITS[name] if known[name].max() + _log_scale(unit) <= math.log10(LARGEST[name])]
        for name in free
    ]
    return [choice for choice in product(*options) if any(unit != UNITS[name][0] for name, unit in choice)]


def _score(choice: Choice, known: Mapping[str, FloatArray], ratio: FloatArray) -> float:
    """Misfit in decades, plus a little for every change, for rare units and for columns left implausibly small."""
    left, penalty = ratio, 0.0
    for name, unit in choice:
        if unit == PER_TOKEN:
            left = left + known["tokens"]
        else:
            left = left + (1 if name == "flops" else -1) * _log_scale(unit)
        changed = unit != UNITS[name][0]
        penalty += 0.5 * changed + 0.5 * (unit in RARE)
        penalty += 2.0 * (not changed and known[name].max() < math.log10(SMALL[name]))
    stated = dict(choice)
    # Nobody writes parameters in billions beside tokens in millions; the other way round is common.
    penalty += 0.3 * (_log_scale(stated.get("params", "")) > _log_scale(stated.get("tokens", "")) > 0)
    return float(np.abs(left).mean()) + penalty


def _said(choice: Choice) -> str:
    return " and ".join(
        "flops per token" if unit == PER_TOKEN else f"{name} in {unit}"
        for name, unit in choice
        if unit != UNITS[name][0]
    )


def _check_loss(final: pd.DataFrame, headers: Mapping[str, str], units: Mapping[str, str], where: str) -> None:
    if "loss" not in final or "loss" in units:
        return
    loss = final["loss"].to_numpy(dtype=np.float64)
    span = _span(final["loss"])
    if hint := _hint("loss", headers, 0.0):
        _ask("loss", headers, where, f"like {hint}, by its name", span, f"--unit loss={hint}")
    if "bits_per_byte" in final:
        bits = final["bits_per_byte"].to_numpy(dtype=np.float64)
        seen = np.isfinite(bits) & (bits > 0)
        if seen.any() and np.all(np.abs(loss[seen] / bits[seen] - 1.0) < SAME):
            _ask("loss", headers, where, "like bits per byte: it equals that column", span, "--unit loss=bits-per-byte")
    vocab = final["vocab"].to_numpy(dtype=np.float64) if "vocab" in final else np.full(loss.size, np.nan)
    above = loss > np.log(np.where(vocab > 1, vocab, np.inf))
    if np.median(above) > 0.5:
        unit = "bits" if np.all(loss <= np.log2(vocab)) else "perplexity"
        what = "too high for nats per token: most runs are above ln(vocab), a uniform guess"
        _ask("loss", headers, where, what, span, f"--unit loss={unit}")
    if np.mean(loss > MOST_NATS) > 0.25:
        what = "like a perplexity: in nats, more than a quarter of the runs would be worse than a uniform guess"
        _ask("loss", headers, where, what, span, "--unit loss=perplexity")


def _ask(name: str, headers: Mapping[str, str], where: str, looks: str, got: str, option: str) -> None:
    column = name if headers.get(name, name) == name else f"{name} ({headers[name]})"
    meaning = {"flops": "training FLOPs of the whole run", "loss": "nats per token"}.get(name, f"single {name}")
    remedy = f"say {option}; if it is right as it is, --unit {name}={UNITS[name][0]}"
    raise InputError(f"column {column} looks {looks}", where=where, got=got, expected=meaning, remedy=remedy)


def _hint(name: str, headers: Mapping[str, str], largest: float) -> str | None:
    """The unit that the file's header names. Words of counts are believed only where the numbers are small, too."""
    header = plain_name(headers.get(name, name))
    if name in ("tokens", "params") and largest >= 1e7:
        return None
    for pattern, unit in HEADERS[name]:
        if re.search(rf"(^|_)({pattern})($|_)", header):
            return unit
    return None


def _log10(final: pd.DataFrame, name: str) -> FloatArray | None:
    """log10 of a column, or None unless all of it is known and positive."""
    if name not in final:
        return None
    values = final[name].to_numpy(dtype=np.float64)
    return np.log10(values) if np.all(np.isfinite(values) & (values > 0)) else None


def _log_scale(unit: str) -> float:
    return math.log10(SCALE.get(unit, 1.0))


def _span(values: pd.Series[float]) -> str:
    return f"{values.min():.4g} to {values.max():.4g}"
