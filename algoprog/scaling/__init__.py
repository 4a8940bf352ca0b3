"""Scaling laws from runs: frontier, power laws with one irreducible loss, compute-equivalent gains, intervals.

Reads a store, a CSV or a Parquet file; never imports torch nor anything else of algoprog. Start with :func:`analyse`.
"""

from algoprog.scaling.ceg import Gain, GainFunction, gain_at_flops, gain_at_loss, gain_function, law_gain
from algoprog.scaling.errors import InputError
from algoprog.scaling.fit import FrontierFit, fit_frontiers
from algoprog.scaling.frontier import final_frontier
from algoprog.scaling.intervals import Bootstrap, bootstrap
from algoprog.scaling.laws import PowerLaw
from algoprog.scaling.profile import IrreducibleProfile, profile_irreducible
from algoprog.scaling.runs import excluded_runs, final_points, load_runs
from algoprog.scaling.search import Status
from algoprog.scaling.study import Analysis, LawRow, PairGains, analyse

__all__ = [
    "Analysis",
    "Bootstrap",
    "FrontierFit",
    "Gain",
    "GainFunction",
    "InputError",
    "IrreducibleProfile",
    "LawRow",
    "PairGains",
    "PowerLaw",
    "Status",
    "analyse",
    "bootstrap",
    "excluded_runs",
    "final_frontier",
    "final_points",
    "fit_frontiers",
    "gain_at_flops",
    "gain_at_loss",
    "gain_function",
    "law_gain",
    "load_runs",
    "profile_irreducible",
]
