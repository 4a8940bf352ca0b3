"""What the study's figures have in common: the study on the left, our runs on the right, a caption under both."""

from __future__ import annotations

import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from algoprog.report.style import DARK

WIDTH_IN = 9.6
CAPTION_SIZE = 8.0
LEFT, RIGHT = "the study", "our runs"


def study_figure(height_in: float, caption: str) -> Figure:
    """An empty figure, wide enough for two panels, with ``caption`` below them. Call it while ``drawing()``."""
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    figure.set_layout_engine("constrained", wspace=0.06)
    figure.supxlabel(caption, x=0.01, ha="left", fontsize=CAPTION_SIZE, color=DARK, multialignment="left")
    return figure


def say(axes: Axes, why: str) -> None:
    """Words in a panel that has nothing to draw."""
    told = "\n".join(textwrap.fill(line, 48) for line in why.splitlines())
    axes.text(0.5, 0.5, told, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=DARK, gid="nothing")
    axes.grid(False)
