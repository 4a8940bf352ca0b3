"""One table of runs with their responses, taken apart into effects, cells and products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from algoprog.scaling.errors import InputError
from algoprog.scaling.interactions.design import (
    Design,
    Term,
    difference_weights,
    effect_weights,
    highest_order,
    model_matrix,
    terms_up_to,
)
from algoprog.scaling.interactions.error import ErrorMethod, ErrorModel, choose_error, intervals
from algoprog.scaling.interactions.result import (
    ALONE,
    BEFORE,
    BELOW,
    MEASURED,
    MISSING,
    NEVER,
    Cell,
    Effect,
    FactorialAnalysis,
    Product,
    effect,
    infinite,
)
from algoprog.scaling.interactions.runs import FactorRuns, Factors
from algoprog.scaling.laws import FloatArray

DESIGN = ("width", "depth", "params", "lr")  # what repeats of one run have in common


@dataclass(frozen=True)
class Settings:
    """What was asked for: as the arguments of ``factorial``; ``conversion``: from loss to gain, in words."""

    factors: Factors
    reference: str
    order: int
    method: ErrorMethod
    level: float
    draws: int
    seed: int
    conversion: str

    @property
    def start(self) -> int:
        """The number of the reference cell."""
        return (1 << len(self.factors)) - 1 if self.reference == "new" else 0


@dataclass(frozen=True, eq=False)
class _Responses:
    """Runs with a finite ln gain ``y`` (runs,) and its draws under the law (draws, runs), if there are any."""

    design: Design
    y: FloatArray
    law_draws: FloatArray | None
    error: ErrorModel


def analyse_table(
    runs: FactorRuns,
    y: FloatArray,
    law_draws: FloatArray | None,
    settings: Settings,
    by_budget: tuple[FactorialAnalysis, ...] = (),
    warnings: Sequence[str] = (),
) -> FactorialAnalysis:
    """The analysis of ``runs`` with ln gains ``y``, shape (runs,), of which some may be infinite or NaN.

    ``law_draws``: ln gains under draws of the law, shape (draws, runs). Raises InputError if no gain is finite.
    """
    # A cell with a run that has no finite gain has no mean: it is reported, and missing from the model.
    used = ~np.isin(runs.design.group, runs.design.group[~np.isfinite(y)])
    if not used.any():
        raise InputError("no cell has a finite gain", expected="runs that reach the loss, above the law's E")
    design, k = Design(runs.design.signs[used], runs.design.block[used]), len(settings.factors)
    order = highest_order(design, settings.order)
    terms = terms_up_to(k, order)
    weights, resolved = effect_weights(design, terms)
    # Lenth's method needs effects of equal variance: every cell of one budget, once. A budget with a single cell, as runs
    # of the reference law are, says nothing about effects.
    sizes = [np.unique(design.cell[design.block == block]).size for block in np.unique(design.block)]
    balanced = sorted(sizes)[-2:] in ([1 << k], [1, 1 << k])
    finite = None if law_draws is None else law_draws[:, used]
    error = choose_error(
        design, y[used], model_matrix(design, terms), weights[resolved] if balanced else None, settings.method,
        settings.level, settings.draws if finite is None else len(finite), settings.seed,
    )  # fmt: skip
    part = _Responses(design, y[used], finite, error)
    names = [_name(term, settings) for term in terms]
    rows = [w if ok else None for w, ok in zip(weights, resolved, strict=True)]
    effects = _effects(part, settings, names, terms, rows)
    cells = _cells(part, settings, runs.design, y)
    kept = set(terms)
    return FactorialAnalysis(
        factors=dict(settings.factors),
        reference=settings.reference,
        effects=effects,
        cells=cells,
        product=_product(part, settings),
        missing=tuple(cell.levels for cell in cells if cell.status == MISSING),
        assumed_zero=tuple(_name(term, settings) for term in terms_up_to(k, k) if term not in kept),
        method=error.describe() + ("" if finite is None else f"; with {len(finite)} draws of the reference law"),
        conversion=settings.conversion,
        sigma=None if math.isnan(error.s) else error.s,
        degrees_of_freedom=error.freedom,
        level=settings.level,
        budgets=runs.budgets,
        by_budget=by_budget,
        excluded=dict(runs.excluded),
        warnings=(*_warnings(runs, effects, cells, order, settings), *warnings),
    )


def _name(term: Term, settings: Settings) -> str:
    names = list(settings.factors)
    return ":".join(names[j] for j in term)


def _effects(
    part: _Responses,
    settings: Settings,
    names: Sequence[str],
    terms: Sequence[Term],
    weights: Sequence[FloatArray | None],
) -> tuple[Effect, ...]:
    """One effect per row of weights, with its interval; without a number where there are no weights."""
    factors = list(settings.factors)
    known = [row for row in weights if row is not None]
    ends = iter(intervals(part.error, np.array(known), part.y, part.law_draws)) if known else iter(())
    found = []
    for name, term, row in zip(names, terms, weights, strict=True):
        value, interval = (None, None) if row is None else (float(row @ part.y), next(ends))
        found.append(effect(name, tuple(factors[j] for j in term), value, interval))
    return tuple(found)


def _product(part: _Responses, settings: Settings) -> Product:
    k, new, old = len(settings.factors), (1 << len(settings.factors)) - 1, 0
    # A single change is new over old: undone in the all-new cell, or made in the all-old one.
    pairs = [(new, new ^ (1 << j)) if settings.reference == "new" else (1 << j, old) for j in range(k)]
    plus, minus = [better for better, _ in pairs], [worse for _, worse in pairs]
    everything = tuple(range(k))
    names = [*settings.factors, "predicted", "measured", "excess"]
    weights = [
        *(difference_weights(part.design, [a], [b]) for a, b in pairs),
        difference_weights(part.design, plus, minus),
        difference_weights(part.design, [new], [old]),
        difference_weights(part.design, [*plus, old], [*minus, new]),
    ]
    terms = [*((j,) for j in range(k)), everything, everything, everything]
    *singles, predicted, measured, excess = _effects(part, settings, names, terms, weights)
    return Product(tuple(singles), predicted, measured, excess)


def _cells(part: _Responses, settings: Settings, design: Design, y: FloatArray) -> tuple[Cell, ...]:
    """All cells, those without a finite gain too; ``design`` and ``y`` of all runs."""
    k = len(settings.factors)
    weights = [difference_weights(part.design, [cell], [settings.start]) for cell in range(1 << k)]
    rows = _effects(part, settings, [""] * (1 << k), [()] * (1 << k), weights)
    found = []
    for cell, row in enumerate(rows):
        values = y[design.cell == cell]
        levels = {name: pair[(cell >> j) & 1] for j, (name, pair) in enumerate(settings.factors.items())}
        odd = [value for value in values if not math.isfinite(value)]
        # Budgets in which the cell has a gain still give one; a cell that never has says why.
        if row.log_gain is None and odd:
            status = infinite(odd[0]) or MEASURED
            log_gain = None if math.isnan(odd[0]) else float(odd[0])
            found.append(Cell(levels, values.size, log_gain, None, status))
        else:
            status = MISSING if values.size == 0 else MEASURED if row.log_gain is not None else ALONE
            found.append(Cell(levels, values.size, row.log_gain, row.interval, status))
    return tuple(found)


def _warnings(
    runs: FactorRuns, effects: Sequence[Effect], cells: Sequence[Cell], order: int, settings: Settings
) -> list[str]:
    told = [f"{count} run{'s' if count > 1 else ''} left out: {why}." for why, count in runs.excluded.items()]
    for status, meaning in ((MISSING, "have no run"), (NEVER, "never reach the loss"),
                            (BELOW, "lie at or below the irreducible loss of the law"),
                            (BEFORE, "have the loss before their first logged point")):  # fmt: skip
        count = sum(cell.status == status for cell in cells)
        if count:
            told.append(f"{count} of {len(cells)} cells {meaning}.")
    if order < settings.order:
        most = f"interactions of more than {order} factors" if order > 1 else "all interactions"
        told.append(f"Cells are missing: {most} are taken as zero, and bias the other effects where they are not.")
    varied = [
        name
        for name in DESIGN
        if name in runs.final and (runs.final[name].groupby(runs.design.group).nunique(dropna=False) > 1).any()
    ]
    if varied:
        told.append(f"Runs of one cell differ in {', '.join(varied)}: their spread is not that of repeats.")
    blurred = [row.name for row in effects if row.log_gain is None]
    if blurred:
        told.append(f"These runs cannot tell apart the effects of {', '.join(blurred)} and others.")
    return told
