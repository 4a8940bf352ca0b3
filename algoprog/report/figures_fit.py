"""The figures of fitted laws: those of a report, and of ``algoprog fit``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from algoprog.report.figure_exponents import exponents_figure
from algoprog.report.figure_gain import gain_figure
from algoprog.report.figure_isoflop import isoflop_figure
from algoprog.report.figure_loss import loss_figure
from algoprog.report.figure_profile import profile_figure
from algoprog.report.figure_sensitivity import sensitivity_figure
from algoprog.report.figure_surface import surface_figure
from algoprog.scaling import Analysis, SurfaceStudy, isoflop_slices


def analysis_figures(
    analysis: Analysis, curves: Sequence[Mapping[str, Any]] = (), baselines: Mapping[str, float] | None = None
) -> dict[str, Figure]:
    """The figures of frontier laws by name, without those that would be empty. Arguments as of ``loss_figure``."""
    drawn = {"loss": loss_figure(analysis, curves, baselines)}
    if analysis.gains:
        drawn["gain"] = gain_figure(analysis, [(pair.a, pair.b) for pair in analysis.gains])
    if analysis.laws:
        drawn["exponents"] = exponents_figure(analysis)
    if analysis.profile is not None and isinstance(analysis.fit.irreducible, str):
        drawn["profile"] = profile_figure(analysis)
    if any(choice.fit is not None for choice in analysis.choices):
        drawn["sensitivity"] = sensitivity_figure(analysis)
    return drawn


def fit_figures(found: Analysis | SurfaceStudy) -> dict[str, Figure]:
    """The figures of ``algoprog fit``: of frontier laws, with the slices of each architecture where they made the frontier;
    or of one surface per architecture.
    """
    if isinstance(found, SurfaceStudy):
        fitted = [one for one in found.surfaces if one.fit.surface is not None]
        return {f"surface-{one.arch}": surface_figure(one) for one in fitted}
    drawn = analysis_figures(found)
    if found.rule == "slices":
        for arch, points in found.points.groupby("arch"):
            drawn[f"isoflop-{arch}"] = isoflop_figure(isoflop_slices(points))
    return drawn
