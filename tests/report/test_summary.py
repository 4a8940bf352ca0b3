"""Sentences that must not say more than the numbers do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from algoprog.report.growth import Growth, growth
from algoprog.report.page import Written
from algoprog.report.record import read_record
from algoprog.report.searches import extras
from algoprog.report.summary import findings, overview, scale_sentence
from algoprog.scaling import law_gain

GROWING = Growth("lstm", "modern", 0.06, (0.02, 0.09), 4.0, (2.0, 6.0), excludes_zero=True, sound=True)


def test_overview_names_every_exponent_with_its_interval(report: Written, demo: Path) -> None:
    text = overview(report.analysis, read_record(demo))
    assert text.startswith("36 runs of 3 architectures (lstm, modern and retro) finished (1 diverged and 1 planned)")
    for row in report.analysis.laws:
        assert row.alpha is not None
        assert f"{row.arch} 0." in text
    assert "95 % intervals" in text


def test_every_pair_is_told_with_flags(report: Written) -> None:
    told = dict(findings(report.analysis))
    assert list(told) == ["modern over lstm", "retro over lstm", "modern over retro"]
    assert "decades beyond the data" in told["modern over lstm"]  # the centre of the overlap is extrapolated there
    assert "in range" in told["modern over retro"]
    assert all("The gain is " in text for text in told.values())


def test_ablations_are_told_by_repeats_first(searched_report: Written, searched: Path) -> None:
    analysis, record = searched_report.analysis, read_record(searched)
    plain, both = dict(findings(analysis)), dict(findings(analysis, extras(analysis, record).ablations))
    assert list(plain) == list(both)
    for name, text in both.items():
        assert text.startswith("Repeated runs at 2.5e12 FLOPs, read on the law of modern, give a gain of ")
        assert " By the laws of both, the gain is " in text and "Repeated" not in plain[name]
        assert text.endswith(plain[name].split(". ", 1)[1])


def test_growth_matches_the_gain_function(report: Written) -> None:
    fit = report.analysis.fit
    found = growth(report.analysis, "lstm", "modern")
    factor = law_gain(fit.laws["lstm"], fit.laws["modern"], 1e11) / law_gain(fit.laws["lstm"], fit.laws["modern"], 1e10)
    assert found.per_decade == pytest.approx(factor)
    assert found.gap == fit.laws["modern"].alpha - fit.laws["lstm"].alpha
    draws = report.analysis.boot.law("modern").alpha - report.analysis.boot.law("lstm").alpha
    assert found.gap_interval is not None
    inside = np.mean((draws >= found.gap_interval[0]) & (draws <= found.gap_interval[1]))
    assert inside == pytest.approx(0.95, abs=0.02)


def test_scale_is_claimed_only_if_established() -> None:
    assert "grows with scale" in scale_sentence(GROWING)
    assert "4.0 (2.0 to 6.0)" in scale_sentence(GROWING)
    shrinking = replace(
        GROWING, gap=-0.06, gap_interval=(-0.09, -0.02), per_decade=0.25, per_decade_interval=(0.1, 0.5)
    )
    assert "shrinks with scale" in scale_sentence(shrinking)
    open_gap = replace(GROWING, gap_interval=(-0.01, 0.09), excludes_zero=False)
    unsound = replace(GROWING, sound=False)
    unknown = replace(GROWING, gap_interval=None, excludes_zero=False)
    for found, why in ((open_gap, "includes 0"), (unsound, "not sound"), (unknown, "no interval")):
        text = scale_sentence(found)
        assert not found.established and why in text
        assert "grows" not in text and "shrinks" not in text
