"""How figures look: one colour and marker per architecture, safe for colour-blind readers, and fonts that stay legible.

Figures are made without pyplot: no global state, no window, the same on every machine whatever its matplotlibrc says.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

# Okabe and Ito's palette without yellow, which is too pale on white.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
COLOURS = (PURPLE, ORANGE, SKY, BLACK, BLUE, VERMILLION, GREEN)
# Eight markers against seven colours: no look comes twice among the first 56 architectures.
MARKERS = ("D", "v", "P", "X", "*", "o", "s", "^")
GLYPHS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖", "*": "★"}
PLOTLY_SYMBOLS = {
    "o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down", "P": "cross", "X": "x",
    "*": "star",
}  # fmt: skip
GREY, DARK = "#767676", "#333333"

DASHED = (0, (4, 2))

WIDTH_IN = 6.4
PNG_DPI = 200

RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 10.0,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": DARK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,  # names come from files and may hold dollar signs
    "pdf.fonttype": 42,
    "svg.hashsalt": "algoprog",  # names inside an SVG file are the same every time
}


Handle = Line2D | tuple[Patch, Line2D]
"""A key in a legend: a line or marker, or a line on its band."""


@dataclass(frozen=True)
class Look:
    """Colour and marker of one architecture."""

    colour: str
    marker: str

    @property
    def glyph(self) -> str:
        """The marker as a character, for the page."""
        return GLYPHS[self.marker]


# The study's three always look the same, whichever others a sweep holds.
KNOWN = {"modern": Look(BLUE, "o"), "retro": Look(VERMILLION, "s"), "lstm": Look(GREEN, "^")}


def looks(archs: Iterable[str], more: Iterable[str] = ()) -> dict[str, Look]:
    """One look per architecture; those only in ``more`` come last, so that they do not change the others."""
    names = sorted(set(archs))
    names += sorted(set(more) - set(names))
    free = (Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i in range(len(COLOURS) * len(MARKERS)))
    spare = [look for look in free if look not in KNOWN.values()]
    unknown = [name for name in names if name not in KNOWN]
    return {name: KNOWN[name] if name in KNOWN else spare[unknown.index(name) % len(spare)] for name in names}


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draw and save inside this: our settings on top of matplotlib's defaults."""
    with style.context(RC, after_reset=True):
        yield


def new_figure(height_in: float) -> Figure:
    """An empty figure of the common width; the layout keeps labels apart and inside."""
    return Figure(figsize=(WIDTH_IN, height_in), layout="constrained")


def law_handle(inside: bool) -> Handle:
    """The key of a fitted line with its band: solid and dark inside the data, dashed and light outside."""
    line = Line2D([], [], color=DARK, linewidth=1.8 if inside else 1.3, linestyle="-" if inside else DASHED)
    return Patch(color=GREY, alpha=0.45 if inside else 0.18, linewidth=0), line


def power_of_ten(value: float, _: object = None) -> str:
    """``10¹²`` in plain characters, nothing between whole powers."""
    exponent = math.log10(value) if value > 0 else math.nan
    if not math.isclose(exponent, round(exponent), abs_tol=1e-9):
        return f"{value:.0e}".replace("e+", "e")
    return "10" + str(round(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def flops_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic x axis over FLOPs with labels at powers of ten, and between them where those are few."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [10.0**p for p in powers if low <= 10.0**p <= high]
    step = max(1, math.ceil(len(inside) / 8))
    major = inside[::step] if len(inside) > 1 else _inside(low, high, [m * 10.0**p for p in powers for m in (1, 2, 5)])
    axes.xaxis.set_major_locator(FixedLocator(major))
    axes.xaxis.set_major_formatter(FuncFormatter(power_of_ten))
    axes.xaxis.set_minor_locator(FixedLocator(_inside(low, high, [m * 10.0**p for p in powers for m in range(2, 10)])))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))


def ratio_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic y axis over a ratio, with about four to eight labels that people can read, also in a narrow range."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator(ratio_ticks(low, high)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}×"))
    axes.yaxis.set_minor_locator(NullLocator())


def ratio_ticks(low: float, high: float) -> list[float]:
    """Round numbers inside the range, 1 first, then ever finer ones where there is room, until there are four."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    room = math.log(high / low) / 8 * (1 - 1e-9)  # a decade must have room in eight
    chosen = [1.0] if low <= 1 <= high else []
    for steps in (
        (1,),
        (1, 3),
        (1, 2, 5),
        (1, 1.5, 2, 3, 5, 7),
        (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8),
        _every(0.1),
        _every(0.01),
    ):
        for value in _inside(low, high, [m * 10.0**p for p in powers for m in steps]):
            if all(abs(math.log(value / other)) >= room for other in chosen):
                chosen.append(value)
        if len(chosen) >= 4:
            break
    return sorted(chosen) or [low, high]


def _every(step: float) -> list[float]:
    return [1 + i * step for i in range(round(9 / step))]


def _inside(low: float, high: float, values: Sequence[float]) -> list[float]:
    return sorted({float(f"{value:.6g}") for value in values if low <= value <= high})
