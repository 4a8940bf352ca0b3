"""The decomposition of Gundlach et al. (2025, arXiv 2511.21622) from its constants, to the last printed digit; composed."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from algoprog.config import read_yaml
from algoprog.recipes import CONFIGS
from algoprog.scaling import law_gain
from algoprog.scaling.decomposition.estimate import Estimate
from algoprog.scaling.decomposition.plan import AllocationStage
from algoprog.scaling.decomposition.result import Decomposition, SpanResult, decompose

EARLY, LATE = "2012-2023", "2013-2025"


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    values: dict[str, Any] = read_yaml(CONFIGS / "decompose" / "gundlach-2025.yaml")
    return values


@pytest.fixture(scope="module")
def found(config: dict[str, Any]) -> Decomposition:
    return decompose(config)


def spans(found: Decomposition) -> dict[str, SpanResult]:
    return {span.label: span for span in found.spans}


def percents(shares: dict[str, Estimate] | Any) -> list[str]:
    return [f"{100 * shares[name].value:.1f}" for name in ("transformer", "invariant", "chinchilla")]


def test_frontier_compute(found: Decomposition) -> None:
    assert [f"{span.flops:.5e}" for span in found.spans] == ["1.34227e+22", "2.25635e+23"]
    assert [f"{found.plan.trend.at(span.span[0]):.2e}" for span in found.spans] == ["2.44e+15", "1.00e+16"]


@pytest.mark.parametrize(
    ("label", "total", "scale", "share", "transformer", "chinchilla", "shares", "rate", "gap"),
    [
        (EARLY, "6926.35", "2697.11", "89.33", "726.15", "3.714", ["74.5", "10.7", "14.8"], "2.2343", "3.18"),
        (LATE, "21415.66", "8339.21", "90.54", "847.81", "9.836", ["67.6", "9.5", "22.9"], "2.2956", "1.03"),
    ],
)
def test_the_studys_arithmetic(
    found: Decomposition,
    label: str,
    total: str,
    scale: str,
    share: str,
    transformer: str,
    chinchilla: str,
    shares: list[str],
    rate: str,
    gap: str,
) -> None:
    study = spans(found)[label].study
    assert f"{study.total.value:.2f}" == total and f"{study.scale_dependent.value:.2f}" == scale
    assert f"{100 * study.scale_dependent_share.value:.2f}" == share
    assert f"{study.factors['transformer'].value:.2f}" == transformer
    assert f"{study.factors['chinchilla'].value:.3f}" == chinchilla
    assert percents(study.shares) == shares
    assert study.per_year is not None and f"{study.per_year.factor:.4f}" == rate
    assert study.gap is not None and f"{study.gap:.2f}" == gap
    assert study.total.value == pytest.approx(math.prod(one.value for one in study.factors.values()), rel=1e-12)


def test_printed_shares_with_two_digits(found: Decomposition) -> None:
    early, late = (spans(found)[label].study.shares for label in (EARLY, LATE))
    assert [f"{100 * early[n].value:.2f}" for n in early] == ["74.50", "10.67", "14.84"]
    assert [f"{100 * late[n].value:.2f}" for n in late] == ["67.62", "9.46", "22.93"]


def test_invariant_parts(found: Decomposition) -> None:
    parts = spans(found)[EARLY].study.parts
    assert [f"{value:.4f}" for value in parts.values()] == [
        "1.0304",
        "1.0088",
        "1.1505",
        "1.0195",
        "1.0531",
        "1.0358",
        "2.0000",
    ]
    product = math.prod(value for name, value in parts.items() if name != "GELU to SwiGLU")
    assert f"{product:.6f}" == "2.568067" and f"{product / 2:.5f}" == "1.28403"
    assert f"{spans(found)[EARLY].study.factors['invariant'].value:.6f}" == "2.568067"


def test_swiglu_that_the_total_lost(config: dict[str, Any]) -> None:
    full = copy.deepcopy(config)
    for part in full["stages"][1]["parts"]:
        part.pop("counted", None)
    study = decompose(full).spans[0].study
    assert f"{study.factors['invariant'].value:.2f}" == "2.66" and round(study.total.value) == 7174


def test_transformer_in_early_2017(found: Decomposition) -> None:
    stage = next(s for s in found.plan.stages if isinstance(s, AllocationStage))
    log_c = found.plan.trend.log_flops(2017.01)
    assert stage.rounded is not None
    gain = law_gain(found.laws["lstm"], found.laws["transformer"], math.exp(log_c))
    assert f"{gain / math.exp(stage.rounded.log_old(log_c)):.2f}" == "90.87"


@pytest.mark.parametrize(
    ("label", "total", "factors", "shares", "other", "mean", "last"),
    [
        (
            EARLY,
            10100.6,
            ("429.78", "2.4475", "9.6026"),
            ["65.8", "9.7", "24.5"],
            ["65.8", "14.3", "19.9"],
            ["65.8", "12.0", "22.2"],
            "724.85",
        ),
        (
            LATE,
            31230,
            ("339.97", "2.2498", "40.831"),
            ["56.3", "7.8", "35.8"],
            ["56.3", "12.8", "30.9"],
            ["56.3", "10.3", "33.4"],
            "1623.3",
        ),
    ],
)
def test_consistent_composition(
    found: Decomposition,
    label: str,
    total: float,
    factors: tuple[str, ...],
    shares: list[str],
    other: list[str],
    mean: list[str],
    last: str,
) -> None:
    composed = spans(found)[label].composed
    assert composed.total.value == pytest.approx(total, abs=0.5 if total > 20000 else 0.05)
    assert tuple(f"{one.value:#.5g}" for one in composed.factors.values()) == factors
    assert percents(composed.shares) == shares
    assert [one.order for one in composed.orders] == [
        ("transformer", "invariant", "chinchilla"),
        ("transformer", "chinchilla", "invariant"),
    ]
    assert percents(composed.orders[1].shares) == other and percents(composed.shapley_shares) == mean
    assert f"{composed.total_in_last.value:#.5g}" == last
    assert composed.reference_free is not None and percents(composed.reference_free) == shares


def test_composed_total_is_the_gain_times_a_power_of_the_invariant_gain(found: Decomposition) -> None:
    for span in found.spans:
        gain = law_gain(found.laws["lstm"], found.laws["transformer"], span.flops)
        assert span.composed.total.value == pytest.approx(gain * 2.568067087456029**1.4, rel=1e-9)


def test_besiroglus_surface(config: dict[str, Any]) -> None:
    other = copy.deepcopy(config)
    other["stages"][2]["surface"] = {"A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
    assert percents(decompose(other).spans[0].composed.shares) == ["72.5", "10.9", "16.6"]


def test_level_and_slope(found: Decomposition) -> None:
    rows = {row.C0: row for row in spans(found)[EARLY].composed.level_slope}
    shares = [f"{100 * rows[c].level_share.value:.1f}" for c in (1e15, 1e16, 1e17, 1e18)]
    assert shares == ["16.9", "28.6", "40.2", "51.9"]
    whole = math.log(law_gain(found.laws["lstm"], found.laws["transformer"], found.spans[0].flops))
    for row in rows.values():
        assert row.level.value + row.slope.value == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "about_one", "about_data"),
    [(-0.25, "18.9", "816"), (-0.1, "561", None), (0.1, "1.08e+05", None), (0.25, "1.12e+07", "1.01e+05")],
)
def test_total_when_the_lstm_line_is_turned(
    config: dict[str, Any], change: float, about_one: str, about_data: str | None
) -> None:
    """The gap of exponents changed by a part of itself: about C = 1, as the study's script does, and about 2e16."""
    turned = copy.deepcopy(config)
    alpha = 0.065 - 0.029 * change
    turned["laws"]["lstm"]["alpha"] = alpha
    assert f"{decompose(turned).spans[0].study.total.value:.3g}" == about_one
    turned["laws"]["lstm"]["A"] = 36.3 * 2e16 ** (alpha - 0.065)
    assert about_data is None or f"{decompose(turned).spans[0].study.total.value:.3g}" == about_data


def test_reference_dependence(found: Decomposition) -> None:
    assert found.references is not None
    rows = {name: {row.year: row for row in part} for name, part in found.references.rows.items()}
    for row in rows["LSTM"].values():
        assert f"{row.study.log_rate.value:.4f} {row.composed.log_rate.value:.4f}" == "0.6295 0.6295"
        assert f"{100 * row.study.annual:.1f}" == "87.7"
        assert row.composed.gain.value / row.study.gain.value == pytest.approx(2 ** (0.094 / 0.065 - 1), rel=1e-9)
    kaplan = [f"{rows['Kaplan transformer'][year].study.log_rate.value:.3f}" for year in (2022, 2023, 2025)]
    assert kaplan == ["0.376", "0.437", "0.532"]
    for row in rows["dense transformer"].values():
        assert row.study.log_rate.value == row.composed.log_rate.value == 0.0
        assert row.study.gain.value == pytest.approx(2.0) and row.composed.gain.value == pytest.approx(2.0)


def test_says_that_two_optima_are_taken_for_one(found: Decomposition) -> None:
    assert any("0.091" in note and "0.154" in note and "takes them for one" in note for note in found.notes)
    assert found.method == "no interval: constants without errors"
    assert all(one.interval is None for span in found.spans for one in span.composed.factors.values())
