"""The study's published numbers: each has a source, and gives again what was printed or says why not."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoprog.config import read_yaml
from algoprog.recipes import CONFIGS
from algoprog.scaling import PowerLaw
from algoprog.scaling.decomposition.result import decompose
from algoprog.scaling.published import changes, frontier_history, scaling_laws
from algoprog.scaling.published.commands import all_numbers, published_json
from algoprog.scaling.published.derived import derived, total_at_gap, turned
from algoprog.scaling.published.number import by_name

READ_FROM = {"text", "table", "figure", "code", "curves"}


def test_every_number_has_a_source_and_a_place() -> None:
    for group, numbers in all_numbers().items():
        assert numbers and len(by_name(numbers)) == len(numbers), group
        for number in numbers:
            assert number.read_from in READ_FROM and number.source.startswith("arXiv ") and number.place, number.name
            assert math.isfinite(number.value) and number.value > 0 and number.unit, number.name
    assert "published" in scaling_laws.POINTS_FROM and len(scaling_laws.POINTS) == 23


def test_two_numbers_of_one_name_are_refused() -> None:
    with pytest.raises(AssertionError, match="twice"):
        by_name((scaling_laws.IRREDUCIBLE, scaling_laws.IRREDUCIBLE))


# What follows from the constants, and whether it is what was printed. The four that do not agree are findings.
EXPECTED = [
    ("lstm to modern at 5.277", 6.282, True),
    ("lstm to modern at 4.4", 26.04, True),
    ("retro to modern at 5.277", 1.403, False),
    ("retro to modern at 4.4", 1.560, False),
    ("retro to modern at 5.277", 1.334, True),
    ("lstm to retro at 5.277", 4.476, False),
    ("retro to modern, predicted", 3.434, True),
    ("retro to modern, predicted", 3.5715, False),
    ("LSTM to modern, predicted", 16.75, True),
    ("scale-dependent 2012-2023", 2697.11, True),
    ("total 2012-2023", 6926.35, True),
    ("Chinchilla 2012-2023", 3.714, True),
    ("Chinchilla 2012-2023", 3.713, True),
    ("scale-dependent 2013-2025", 8339.21, True),
    ("total 2013-2025", 21415.66, True),
    ("Chinchilla 2013-2025", 9.836, True),
    ("Chinchilla 2013-2025", 9.831, True),
    ("LSTM to Kaplan transformer at 2017.01", 90.87, True),
    ("gap -25 %", 18.87, True),
    ("gap -10 %", 560.9, True),
    ("gap +10 %", 1.0816e5, True),
    ("gap +25 %", 1.1199e7, True),
    ("growth against the LSTM", 0.6295, True),
]


def test_constants_give_the_printed_results_or_the_reason_is_stated() -> None:
    found = derived()
    assert [one.printed.name for one in found] == [name for name, _, _ in EXPECTED]
    for one, (name, value, agrees) in zip(found, EXPECTED, strict=True):
        assert one.computed == pytest.approx(value, rel=5e-4), name
        assert one.agrees is agrees and (agrees or one.reason), name
    assert not replace(found[0], computed=found[0].computed * 1.01).agrees


def test_points_lie_near_the_lines_fitted_to_them() -> None:
    """Above 1e16 FLOPs, where the lines were fitted; not on them, since those follow the lowest of all logged rows."""
    for point in scaling_laws.POINTS:
        if point.flops >= 1e16:
            assert scaling_laws.line(point.arch).loss(point.flops) == pytest.approx(point.loss, abs=0.055), point
    for arch, (low, high) in scaling_laws.FLOPS_RANGE.items():
        assert any(p.arch == arch and low <= p.flops <= high * 1.01 for p in scaling_laws.POINTS)


def test_the_same_constants_as_the_decomposition() -> None:
    """One truth in two places: the file that `algoprog decompose` reads, and these numbers."""
    config = read_yaml(CONFIGS / "decompose" / "gundlach-2025.yaml")
    names = {"lstm": "lstm", "retro": "transformer", "modern": "modern"}
    for arch, name in names.items():
        stated, law = config["laws"][name], scaling_laws.line(arch)
        assert (law.E, law.a, law.alpha) == (stated["E"], stated["A"], stated["alpha"])
        assert list(scaling_laws.FLOPS_RANGE[arch]) == [float(end) for end in stated["flops_range"]]
    found = decompose(config)
    for span, total in zip(found.spans, frontier_history.TOTALS, strict=True):
        assert span.study.total.value == pytest.approx(total.value, rel=1e-5)
        log_gain = np.asarray(math.log(frontier_history.SCALE_DEPENDENT[found.spans.index(span)].value))
        assert math.exp(float(frontier_history.log_total(span.span[1], log_gain))) == pytest.approx(
            total.value, rel=1e-5
        )
    assert math.exp(frontier_history.log_invariant(2025)) == pytest.approx(frontier_history.INVARIANT.value, rel=1e-6)
    gain = frontier_history.allocation_gain()
    assert gain.policy.k == pytest.approx(3.63319e-6, rel=1e-5) and gain.break_even == pytest.approx(5.5e18, rel=0.01)


def test_progress_starts_at_one_and_takes_kaplans_waste_off_until_2022() -> None:
    log_gain = np.asarray(5.0)
    assert float(frontier_history.log_total(2016.9, log_gain)) == 0.0
    before, after = (float(frontier_history.log_total(year, log_gain)) for year in (2021.999, 2022.0))
    wasted = float(frontier_history.ROUNDED.log_old(frontier_history.COMPUTE.log_flops(2021.999)))
    assert after - before == pytest.approx(wasted) and wasted > 0.5
    assert (
        frontier_history.log_invariant(2018)
        < frontier_history.log_invariant(2019)
        < frontier_history.log_invariant(2021)
    )


@given(st.floats(0.02, 0.3), st.floats(1e10, 1e20))
def test_turning_a_law_keeps_its_loss_where_it_turns(alpha: float, flops: float) -> None:
    law = PowerLaw(1.9, 36.3, 0.065)
    other = turned(law, alpha, flops)
    assert other.alpha == alpha and other.loss(flops) == pytest.approx(law.loss(flops), rel=1e-12)


def test_where_the_line_is_turned_decides_how_sensitive_the_total_is() -> None:
    flops = frontier_history.END_FLOPS[2023]
    assert total_at_gap(0.0, flops) == pytest.approx(total_at_gap(0.0, flops, 2e16)) == pytest.approx(6926.35, rel=1e-4)
    assert total_at_gap(-0.25, flops, 2e16) == pytest.approx(816, rel=0.01)
    assert total_at_gap(0.25, flops, 2e16) == pytest.approx(1.0e5, rel=0.05)


def test_json_is_plain_and_says_what_does_not_agree() -> None:
    value = json.loads(json.dumps(published_json(), allow_nan=False))
    assert value["study"] == "arXiv 2511.21622" and set(value["numbers"]) == set(all_numbers())
    assert all(
        {"value", "unit", "read_from", "place", "source"} <= set(n) for g in value["numbers"].values() for n in g
    )
    assert sum(not one["agrees"] for one in value["derived"]) == 4
    assert len(value["points"]["rows"]) == 23 and value["points"]["source"]
    assert {change.old for change in changes.ABLATIONS} <= set(
        read_yaml(CONFIGS / "sweep" / "ablations.yaml")["variants"]
    )
