"""Figures of the profile of E and of other choices: drawn from the analysis, refused where there is nothing to draw."""

from __future__ import annotations

import numpy as np
import pytest

from algoprog.report.figure_profile import HEIGHT, profile_figure
from algoprog.report.figure_sensitivity import sensitivity_figure
from algoprog.report.figures import render_pdf, render_png
from algoprog.scaling import Analysis, InputError, PowerLaw, analyse, law_gain, profile_irreducible
from algoprog.scaling.simulate import Design, Noise, simulate_sweep

TRUE = {"lstm": PowerLaw(1.9, 2.6, 0.065, 1e16), "modern": PowerLaw(1.9, 2.0, 0.09, 1e16)}
RUNS = simulate_sweep(TRUE, Design(budgets=8, widths=1), Noise(s0=0.004), np.random.default_rng(1))


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analyse(RUNS, draws=60)


def line(figure, gid: str):
    return next(part for axes in figure.axes for part in axes.lines if part.get_gid() == gid)


def test_profile_shows_the_objective_its_set_and_the_exponents(analysis: Analysis) -> None:
    figure = profile_figure(analysis)
    profile = profile_irreducible(analysis.frontier, analysis.fit)
    assert profile.interval is not None
    curve = line(figure, "objective")
    e, rise = curve.get_xdata(), curve.get_ydata()
    assert rise.min() == 0.0 and rise.max() <= HEIGHT
    inside = e[rise <= 1.0]
    assert (inside.min(), inside.max()) == pytest.approx(profile.interval, abs=0.05)
    assert e[np.argmin(rise)] == pytest.approx(analysis.fit.E, abs=1e-9)
    for k, arch in enumerate(profile.archs):
        assert np.interp(
            analysis.fit.E, line(figure, arch).get_xdata(), line(figure, arch).get_ydata()
        ) == pytest.approx(analysis.fit.laws[arch].alpha, rel=1e-3)
        assert set(np.round(line(figure, arch).get_ydata(), 12)) <= set(np.round(profile.alpha[:, k], 12))
    assert render_png(figure).startswith(b"\x89PNG") and render_pdf(figure).startswith(b"%PDF")


def test_sensitivity_shows_every_choice_that_has_a_fit(analysis: Analysis) -> None:
    figure = sensitivity_figure(analysis)
    usable = [choice for choice in analysis.choices if choice.fit is not None]
    labels = [text.get_text() for text in figure.axes[-1].get_xticklabels()]
    assert len(labels) == len(usable) + 1 and labels[0].startswith("as fitted") and labels[1] == "E = 0"
    dots = line(figure, "modern").get_ydata()
    assert list(dots) == [analysis.fit.laws["modern"].alpha, *(choice.fit.laws["modern"].alpha for choice in usable)]
    gain = analysis.gains[0].at_largest
    assert gain is not None
    shown = line(figure, "modern over lstm").get_ydata()
    assert shown[1] == pytest.approx(law_gain(usable[0].fit.laws["lstm"], usable[0].fit.laws["modern"], gain.flops))
    assert render_png(figure).startswith(b"\x89PNG")


def test_one_architecture_has_no_gains_to_show() -> None:
    figure = sensitivity_figure(analyse(RUNS[RUNS["arch"] == "lstm"], draws=20))
    assert len(figure.axes) == 1


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(InputError, match="no profile to draw"):
        profile_figure(analyse(RUNS, 1.7, draws=5))
    with pytest.raises(InputError, match="no other choice to draw"):
        sensitivity_figure(analyse(RUNS[RUNS["flops"] < 1.1e15], draws=5))
