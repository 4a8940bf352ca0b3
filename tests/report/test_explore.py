"""The numbers of the interactive chart are those of the analysis, in every convention and at every value of E."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoprog.report.explore import E_VALUES, LOSSES, embedded, explorer
from algoprog.report.page import Written
from algoprog.report.record import read_record
from algoprog.scaling import fit_frontiers, gain_at_flops, gain_at_loss

EXACT = 2e-5  # six digits are kept


@pytest.fixture(scope="module")
def found(searched: Path, searched_report: Written) -> dict[str, Any]:
    return explorer(searched, searched_report.analysis, read_record(searched), draws=30)


def test_conventions_are_those_in_which_every_run_was_counted(found: dict[str, Any], searched_report: Written) -> None:
    assert [one["name"] for one in found["conventions"]] == ["causal_exact", "kaplan_6n"]
    [(name, why)] = found["skipped"]
    assert name == "study_profiler" and "bad flops" in why and "store.sqlite" not in why
    exact, other = found["conventions"]
    points = searched_report.analysis.points
    assert exact["flops"] == pytest.approx(list(points["flops"]), rel=EXACT)
    assert other["flops"] == pytest.approx(list(0.5 * points["flops"] ** 1.02), rel=EXACT)
    assert {found["runs"]["run"][i] for i in exact["frontier"]} == set(searched_report.analysis.frontier["run"])


def test_free_laws_are_those_of_the_page(found: dict[str, Any], searched_report: Written) -> None:
    analysis = searched_report.analysis
    free = found["conventions"][0]["free"]
    for arch, law in zip(found["archs"], free["laws"], strict=True):
        [row] = [row for row in analysis.laws if row.arch == arch["name"]]
        assert law["alpha"] == pytest.approx([row.law.alpha, *(row.alpha or ())], rel=EXACT)
        grid = np.array(law["grid"])
        assert law["E"] + law["a"] * (grid / law["C0"]) ** -law["alpha"][0] == pytest.approx(
            row.law.loss(grid), rel=1e-4
        )
        assert all(low <= high for low, high in zip(law["low"], law["high"], strict=True))


def test_held_values_are_refits_with_that_e(found: dict[str, Any], searched_report: Written) -> None:
    analysis, exact = searched_report.analysis, found["conventions"][0]
    values = [one["E"] for one in exact["held"]]
    assert len(values) == E_VALUES and values == sorted(values) and values[0] == 0
    assert values[-1] < analysis.points["loss"].min()
    assert analysis.fit.loss == "huber"  # held laws keep the objective of the free one: what varies is E alone
    for one in exact["held"][::4]:
        fit = fit_frontiers(analysis.frontier, float(one["E"]), loss="huber", knee=analysis.fit.knee)
        for arch, law in zip(found["archs"], one["laws"], strict=True):
            assert law["alpha"][0] == pytest.approx(fit.laws[arch["name"]].alpha, rel=EXACT)
    # The smaller the reducible loss, the faster it falls: exponents rise with E.
    slopes = [one["laws"][0]["alpha"][0] for one in exact["held"]]
    assert slopes == sorted(slopes)


def test_gains_at_thresholds_are_those_of_the_laws(found: dict[str, Any], searched_report: Written) -> None:
    analysis, free = searched_report.analysis, found["conventions"][0]["free"]
    assert len(found["losses"]) == LOSSES and found["losses"] == sorted(found["losses"], reverse=True)
    for (old, new), pair in zip(found["pairs"], free["pairs"], strict=True):
        a, b = found["archs"][old]["name"], found["archs"][new]["name"]
        for loss, gain in zip(found["losses"], pair["gains"], strict=True):
            expected = gain_at_loss(analysis.fit, a, b, loss, boot=analysis.boot)
            assert gain[:3] == pytest.approx([expected.gain, *(expected.interval or ())], rel=1e-3)
        at_one, at_ten = (gain_at_flops(analysis.fit, a, b, c).gain for c in (1e11, 1e12))
        assert pair["per_decade"][0] == pytest.approx(at_ten / at_one, rel=1e-4)


def test_a_threshold_below_e_has_no_gain(found: dict[str, Any]) -> None:
    for one in found["conventions"][0]["held"]:
        for pair in one["pairs"]:
            below = [gain is None for gain in pair["gains"]]
            assert below == [loss <= one["E"] for loss in found["losses"]]


@given(st.text(alphabet=st.sampled_from("</script>!-&'\"\\ abc\u2028"), max_size=30))
def test_embedded_text_cannot_leave_its_element(text: str) -> None:
    told = embedded({"name": text})
    assert not set("<>&") & set(told)
    assert json.loads(told) == {"name": text}
