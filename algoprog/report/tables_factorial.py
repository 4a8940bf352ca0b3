"""A factorial ablation on a terminal. Everything printed here is also in the JSON of the command."""

from __future__ import annotations

from algoprog.report.numbers import digits, flops, percent, with_interval
from algoprog.report.tables import _table as print_table
from algoprog.report.tables import print_warnings
from algoprog.scaling.interactions.result import Effect, FactorialAnalysis


def print_factorial(found: FactorialAnalysis) -> None:
    """Effects by order, multiplied single changes against the joint one, cells without a gain, and the warnings."""
    changes = ", ".join(f"{name} {old} to {new}" for name, (old, new) in found.factors.items())
    budgets = ", ".join(flops(budget) for budget in found.budgets)
    print(f"{changes}; {budgets} FLOPs")
    level = percent(found.level)
    rows = [(effect.name, gain(effect)) for effect in found.effects]
    print_table("effects on compute: mean at new over mean at old", ("effect", f"gain ({level})"), rows)
    start = "undone in the all-new recipe" if found.reference == "new" else "made in the all-old recipe"
    product = found.product
    shown = [
        *((f"{single.name}, {start}", gain(single)) for single in product.singles),
        ("predicted by multiplication", gain(product.predicted)),
        ("measured, all new over all old", gain(product.measured)),
        ("predicted over measured", gain(product.excess)),
    ]
    print_table("do single gains multiply?", ("", f"gain ({level})"), shown)
    for part in found.by_budget:
        told = f"predicted {gain(part.product.predicted)}, measured {gain(part.product.measured)}"
        print(f"at {flops(part.budgets[0])} FLOPs: {told}")
    print(f"losses to gains: {found.conversion}")
    print(f"intervals: {found.method}")
    print_warnings(found.warnings)


def gain(effect: Effect) -> str:
    """A gain with its interval; a dash where the runs cannot tell."""
    if effect.gain is None:
        return digits(None)
    return with_interval(effect.gain, effect.gain_interval)
