"""Scaling laws from runs: frontier, power laws with one irreducible loss, compute-equivalent gains, intervals.

Reads a store, a CSV or a Parquet file; never imports torch nor anything else of algoprog. Start with :func:`analyse`.
Names are imported when first used, so that one law does not cost the import of everything.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from algoprog.scaling.allocation import AllocationGain, Policy
    from algoprog.scaling.breakpoints.breaks import BreakTest, break_test
    from algoprog.scaling.breakpoints.extrapolation import Extrapolation, extrapolate
    from algoprog.scaling.breakpoints.licensing import Licence, gain_licences, licence
    from algoprog.scaling.broken import BrokenLaw
    from algoprog.scaling.broken_fit import BrokenFit, fit_broken
    from algoprog.scaling.ceg import Gain, GainFunction, gain_at_flops, gain_at_loss, gain_function, law_gain
    from algoprog.scaling.composition import GainMap, allocation_map, invariant_map, law_map
    from algoprog.scaling.decomposition.result import Decomposition, decompose
    from algoprog.scaling.envelope import envelope_frontier
    from algoprog.scaling.errors import InputError
    from algoprog.scaling.fit import FrontierFit, fit_frontiers
    from algoprog.scaling.frontier import RuleFrontier, final_frontier, frontier_by_rule
    from algoprog.scaling.interactions.analysis import factorial
    from algoprog.scaling.interactions.matched import MatchedGain, matched_gain
    from algoprog.scaling.interactions.result import FactorialAnalysis
    from algoprog.scaling.intervals.bootstrap import Bootstrap, bootstrap
    from algoprog.scaling.intervals.profile import IrreducibleProfile, profile_irreducible
    from algoprog.scaling.isoflop.intervals import IsoflopBootstrap, bootstrap_isoflop
    from algoprog.scaling.isoflop.slices import Allocation, Isoflop, Slice, fit_allocation, isoflop_slices
    from algoprog.scaling.laws import PowerLaw
    from algoprog.scaling.planning.power import GapStudy
    from algoprog.scaling.planning.report import PowerReport, power_report
    from algoprog.scaling.runs.load import excluded_runs, final_points, load_runs
    from algoprog.scaling.search import Status
    from algoprog.scaling.sensitivity import Sources
    from algoprog.scaling.study import Analysis, LawRow, PairGains, analyse
    from algoprog.scaling.surface.fit import SurfaceFit, fit_surface
    from algoprog.scaling.surface.intervals import SurfaceBootstrap, bootstrap_surface
    from algoprog.scaling.surface.law import FLOPS_PER_PARAM_TOKEN, Surface
    from algoprog.scaling.surface.profile import SurfaceProfile, profile_surface
    from algoprog.scaling.surface.study import SurfaceAnalysis, SurfaceStudy, analyse_surfaces

_HOME = {
    "allocation": (
        "AllocationGain",
        "Policy",
    ),
    "breakpoints.breaks": (
        "BreakTest",
        "break_test",
    ),
    "breakpoints.extrapolation": (
        "Extrapolation",
        "extrapolate",
    ),
    "breakpoints.licensing": (
        "Licence",
        "gain_licences",
        "licence",
    ),
    "broken": ("BrokenLaw",),
    "broken_fit": (
        "BrokenFit",
        "fit_broken",
    ),
    "ceg": (
        "Gain",
        "GainFunction",
        "gain_at_flops",
        "gain_at_loss",
        "gain_function",
        "law_gain",
    ),
    "composition": (
        "GainMap",
        "allocation_map",
        "invariant_map",
        "law_map",
    ),
    "decomposition.result": (
        "Decomposition",
        "decompose",
    ),
    "envelope": ("envelope_frontier",),
    "errors": ("InputError",),
    "fit": (
        "FrontierFit",
        "fit_frontiers",
    ),
    "frontier": (
        "RuleFrontier",
        "final_frontier",
        "frontier_by_rule",
    ),
    "interactions.analysis": ("factorial",),
    "interactions.matched": (
        "MatchedGain",
        "matched_gain",
    ),
    "interactions.result": ("FactorialAnalysis",),
    "intervals.bootstrap": (
        "Bootstrap",
        "bootstrap",
    ),
    "intervals.profile": (
        "IrreducibleProfile",
        "profile_irreducible",
    ),
    "isoflop.intervals": (
        "IsoflopBootstrap",
        "bootstrap_isoflop",
    ),
    "isoflop.slices": (
        "Allocation",
        "Isoflop",
        "Slice",
        "fit_allocation",
        "isoflop_slices",
    ),
    "laws": ("PowerLaw",),
    "planning.power": ("GapStudy",),
    "planning.report": (
        "PowerReport",
        "power_report",
    ),
    "runs.load": (
        "excluded_runs",
        "final_points",
        "load_runs",
    ),
    "search": ("Status",),
    "sensitivity": ("Sources",),
    "study": (
        "Analysis",
        "LawRow",
        "PairGains",
        "analyse",
    ),
    "surface.fit": (
        "SurfaceFit",
        "fit_surface",
    ),
    "surface.intervals": (
        "SurfaceBootstrap",
        "bootstrap_surface",
    ),
    "surface.law": (
        "FLOPS_PER_PARAM_TOKEN",
        "Surface",
    ),
    "surface.profile": (
        "SurfaceProfile",
        "profile_surface",
    ),
    "surface.study": (
        "SurfaceAnalysis",
        "SurfaceStudy",
        "analyse_surfaces",
    ),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Allocation",
    "AllocationGain",
    "Analysis",
    "Bootstrap",
    "BreakTest",
    "BrokenFit",
    "BrokenLaw",
    "Decomposition",
    "Extrapolation",
    "FLOPS_PER_PARAM_TOKEN",
    "FactorialAnalysis",
    "FrontierFit",
    "Gain",
    "GainFunction",
    "GainMap",
    "GapStudy",
    "InputError",
    "IrreducibleProfile",
    "Isoflop",
    "IsoflopBootstrap",
    "LawRow",
    "Licence",
    "MatchedGain",
    "PairGains",
    "Policy",
    "PowerLaw",
    "PowerReport",
    "RuleFrontier",
    "Slice",
    "Sources",
    "Status",
    "Surface",
    "SurfaceAnalysis",
    "SurfaceBootstrap",
    "SurfaceFit",
    "SurfaceProfile",
    "SurfaceStudy",
    "allocation_map",
    "analyse",
    "analyse_surfaces",
    "bootstrap",
    "bootstrap_isoflop",
    "bootstrap_surface",
    "break_test",
    "decompose",
    "envelope_frontier",
    "excluded_runs",
    "extrapolate",
    "factorial",
    "final_frontier",
    "final_points",
    "fit_allocation",
    "fit_broken",
    "fit_frontiers",
    "fit_surface",
    "frontier_by_rule",
    "gain_at_flops",
    "gain_at_loss",
    "gain_function",
    "gain_licences",
    "invariant_map",
    "isoflop_slices",
    "law_gain",
    "law_map",
    "licence",
    "load_runs",
    "matched_gain",
    "power_report",
    "profile_irreducible",
    "profile_surface",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'algoprog.scaling' has no attribute {name!r}")
    return getattr(importlib.import_module(f"algoprog.scaling.{_MODULE[name]}"), name)
