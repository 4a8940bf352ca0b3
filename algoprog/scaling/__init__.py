"""Scaling laws from runs: frontier, power laws with one irreducible loss, compute-equivalent gains, intervals.

Reads a store, a CSV or a Parquet file; never imports torch nor anything else of algoprog. Start with :func:`analyse`.
"""

from algoprog.scaling.allocation import AllocationGain, Policy
from algoprog.scaling.breaks import BreakTest, break_test
from algoprog.scaling.broken import BrokenLaw
from algoprog.scaling.broken_fit import BrokenFit, fit_broken
from algoprog.scaling.ceg import Gain, GainFunction, gain_at_flops, gain_at_loss, gain_function, law_gain
from algoprog.scaling.composition import GainMap, allocation_map, invariant_map, law_map
from algoprog.scaling.decompose import Decomposition, decompose
from algoprog.scaling.envelope import envelope_frontier
from algoprog.scaling.errors import InputError
from algoprog.scaling.extrapolate import Extrapolation, extrapolate
from algoprog.scaling.factorial import factorial
from algoprog.scaling.factorial_result import FactorialAnalysis
from algoprog.scaling.fit import FrontierFit, fit_frontiers
from algoprog.scaling.frontier import RuleFrontier, final_frontier, frontier_by_rule
from algoprog.scaling.intervals import Bootstrap, bootstrap
from algoprog.scaling.isoflop import Allocation, Isoflop, Slice, fit_allocation, isoflop_slices
from algoprog.scaling.isoflop_intervals import IsoflopBootstrap, bootstrap_isoflop
from algoprog.scaling.laws import PowerLaw
from algoprog.scaling.licence import Licence, gain_licences, licence
from algoprog.scaling.power import GapStudy
from algoprog.scaling.power_report import PowerReport, power_report
from algoprog.scaling.profile import IrreducibleProfile, profile_irreducible
from algoprog.scaling.runs import excluded_runs, final_points, load_runs
from algoprog.scaling.search import Status
from algoprog.scaling.sensitivity import Sources
from algoprog.scaling.study import Analysis, LawRow, PairGains, analyse
from algoprog.scaling.surface import FLOPS_PER_PARAM_TOKEN, Surface
from algoprog.scaling.surface_fit import SurfaceFit, fit_surface
from algoprog.scaling.surface_intervals import SurfaceBootstrap, bootstrap_surface
from algoprog.scaling.surface_profile import SurfaceProfile, profile_surface
from algoprog.scaling.surface_study import SurfaceAnalysis, SurfaceStudy, analyse_surfaces

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
    "power_report",
    "profile_irreducible",
    "profile_surface",
]
