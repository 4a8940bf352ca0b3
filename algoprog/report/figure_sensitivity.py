"""Exponents and gains under other admissible choices: E held at fixed values, other frontier rules, lower cuts on C."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from algoprog.report.numbers import digits, percent
from algoprog.report.style import DARK, GREY, Handle, drawing, looks, new_figure, ratio_axis
from algoprog.scaling import Analysis, Gain, InputError, law_gain
from algoprog.scaling.sensitivity import Choice

WIDTH_PER_STEP = 0.09  # sideways distance between architectures at one choice


def sensitivity_figure(analysis: Analysis) -> Figure:
    """Exponents above, gains below, one column per choice; "as fitted" comes first, with its intervals.

    Gains are those at the largest compute in range, read at that same compute under every choice. Raises InputError
    without a law or without another choice.
    """
    usable = [choice for choice in analysis.choices if choice.fit is not None]
    if not analysis.laws or not usable:
        raise InputError(
            "no other choice to draw", got=analysis.fit.reason, expected="a law, and choices that have one"
        )
    gains = [pair.at_largest for pair in analysis.gains if pair.at_largest is not None]
    with drawing():
        figure = new_figure(3.6 if not gains else 5.6)
        rows = figure.subplots(2 if gains else 1, 1, sharex=True, squeeze=False)[:, 0]
        _draw_exponents(rows[0], analysis, usable)
        if gains:
            _draw_gains(rows[1], analysis, usable, gains)
        _columns(rows[-1], analysis, usable)
        labels, handles = zip(*_legend(analysis, gains), strict=True)
        figure.legend(handles, labels, loc="outside upper center", ncols=3, handlelength=1.6)
        return figure


def _draw_exponents(axes: Axes, analysis: Analysis, choices: Sequence[Choice]) -> None:
    look = looks(analysis.points["arch"])
    for number, row in enumerate(analysis.laws):
        shift = _shift(number, len(analysis.laws))
        colour, marker = look[row.arch].colour, look[row.arch].marker
        if row.alpha is not None:
            axes.plot(
                [shift, shift], row.alpha, color=colour, linewidth=3, alpha=0.45, solid_capstyle="butt", gid="interval"
            )
        values = [row.law.alpha, *(c.fit.laws[row.arch].alpha for c in choices if c.fit and row.arch in c.fit.laws)]
        places = [0.0, *(i + 1.0 for i, c in enumerate(choices) if c.fit and row.arch in c.fit.laws)]
        axes.plot(
            [p + shift for p in places],
            values,
            color=colour,
            marker=marker,
            markersize=6,
            linestyle="none",
            gid=row.arch,
        )
    axes.set_ylabel("exponent α")
    axes.set_ylim(bottom=0.0)


def _draw_gains(axes: Axes, analysis: Analysis, choices: Sequence[Choice], gains: Sequence[Gain]) -> None:
    look = looks(analysis.points["arch"])
    everything = [1.0]
    for number, gain in enumerate(gains):
        shift = _shift(number, len(gains))
        colour = look[gain.b].colour
        values, places = [gain.gain], [0.0]
        for i, choice in enumerate(choices):
            if choice.fit and {gain.a, gain.b} <= set(choice.fit.laws):
                values.append(law_gain(choice.fit.laws[gain.a], choice.fit.laws[gain.b], gain.flops))
                places.append(i + 1.0)
        if gain.interval is not None:
            axes.plot([shift, shift], gain.interval, color=colour, linewidth=3, alpha=0.45, solid_capstyle="butt")
            everything += [end for end in gain.interval if 0 < end < float("inf")]
        axes.plot(
            [p + shift for p in places], values, color=colour, marker=look[gain.a].marker, markerfacecolor="white",
            markeredgewidth=1.6, markersize=6, linestyle="none", gid=f"{gain.b} over {gain.a}",
        )  # fmt: skip
        everything += [value for value in values if 0 < value < float("inf")]
    axes.axhline(1.0, color=DARK, linewidth=1.0)
    room = (max(everything) / min(everything)) ** 0.06 * 1.02
    ratio_axis(axes, min(everything) / room, max(everything) * room)
    axes.set_ylabel("gain, at the largest\ncompute in range")


def _columns(axes: Axes, analysis: Analysis, choices: Sequence[Choice]) -> None:
    labels = [f"as fitted\nE = {digits(analysis.fit.E)}"] + [_label(choice, analysis.rule) for choice in choices]
    axes.set_xticks(range(len(labels)), labels, rotation=55, ha="right", rotation_mode="anchor", fontsize=9)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.tick_params(axis="x", length=0)
    for one in axes.figure.axes:
        one.grid(False, axis="x")
        one.axvspan(-0.6, 0.5, color=GREY, alpha=0.12, linewidth=0, zorder=0)


def _label(choice: Choice, rule: str) -> str:
    if choice.kind == "rule":
        return f"rule {choice.label}"
    return choice.label.removeprefix(f"{rule}, ")


def _shift(number: int, count: int) -> float:
    return WIDTH_PER_STEP * 2 * (number - (count - 1) / 2)


def _legend(analysis: Analysis, gains: Sequence[Gain]) -> list[tuple[str, Handle | Patch]]:
    look = looks(analysis.points["arch"])
    dots: list[tuple[str, Handle | Patch]] = [
        (arch, Line2D([], [], color=look[arch].colour, marker=look[arch].marker, linestyle="none"))
        for arch in analysis.fit.archs
    ]
    for gain in gains:
        handle = Line2D(
            [], [], color=look[gain.b].colour, marker=look[gain.a].marker, markerfacecolor="white", markeredgewidth=1.6,
            linestyle="none",
        )  # fmt: skip
        dots.append((f"{gain.b} over {gain.a}", handle))
    return [*dots, (f"{percent(analysis.boot.level)} interval", Line2D([], [], color=GREY, linewidth=3, alpha=0.6))]
