"""The optimal size on the page: known exponents come back, few sizes give no section, doubts are told."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoprog.report import content_sizes
from algoprog.report.answers import Answers
from algoprog.report.figures_answers import answer_figures, answer_rows, drawn_sizes
from algoprog.report.kaplan_policy import drawn_surfaces, our_policy, waste_band
from algoprog.report.optimal_size import OptimalSize, Way, _disagreements, answerable, optimal_sizes
from algoprog.report.page import Written, write_report
from algoprog.scaling import Analysis, Surface, analyse
from algoprog.scaling.allocation import AllocationGain
from algoprog.scaling.published.optimal_size import EXPONENTS, hoffmann_exponents, kaplan_exponent
from algoprog.sweep.store import open_for_driving

SURFACE = Surface(1.69, 406.4, 410.7, 0.34, 0.28)
BUDGETS = (1e15, 1e16, 1e17, 1e18)
DRAWS = 60


def runs_of(
    surface: Surface = SURFACE,
    arch: str = "modern",
    sizes: int = 5,
    budgets: tuple[float, ...] = BUDGETS,
    off: float = 1.0,
    noise: float = 0.003,
    seeds: int = 2,
) -> pd.DataFrame:
    """Runs of ``sizes`` sizes at every budget about ``off`` times the optimum of ``surface``."""
    rng, rows = np.random.default_rng(5), []
    for flops in budgets:
        for n in surface.optimal(flops)[0] * off * np.geomspace(0.25, 4, sizes):
            for seed in range(seeds):
                loss = surface.loss(n, flops / 6 / n) * math.exp(noise * rng.standard_normal())
                rows.append((f"{arch}-{flops:.0e}-{n:.0f}-{seed}", arch, n, flops / 6 / n, flops, loss, seed))
    return pd.DataFrame(rows, columns=["run", "arch", "params", "tokens", "flops", "loss", "seed"])


def analysis_of(points: pd.DataFrame) -> Analysis:
    return analyse(points, draws=20)


@pytest.fixture(scope="module")
def known() -> OptimalSize:
    """One architecture whose surface is that of Hoffmann et al. 2022, and another with two sizes per budget."""
    points = pd.concat([runs_of(), runs_of(arch="narrow", sizes=2)], ignore_index=True)
    (found,) = optimal_sizes(analysis_of(points), DRAWS)
    return found


def test_known_exponent_and_tokens_come_back_with_intervals(known: OptimalSize) -> None:
    assert known.arch == "modern" and known.why == "" and [way.name for way in known.ways] == ["surface", "slices"]
    n, d = SURFACE.optimal(BUDGETS[1])
    for way in known.ways:
        assert way.doubt == "" and way.interval is not None and way.ratio_interval is not None
        assert way.interval[0] <= SURFACE.a_N <= way.interval[1] and way.a == pytest.approx(SURFACE.a_N, abs=0.03)
        assert way.flops == pytest.approx(BUDGETS[1]) and way.ratio == pytest.approx(d / n, rel=0.2)
        assert way.ratio_interval[0] <= way.ratio <= way.ratio_interval[1]
    rows = content_sizes.sizes_table([known], {}).rows
    assert [row[4].text for row in rows] == ["no", "no"] and {row[5].text for row in rows} <= {"yes", "in part"}
    [(_, told, _)] = content_sizes.sizes_told([known])
    assert "Kaplan's 0.73 is excluded: N* grows more slowly" in told and "0.45 to 0.50 is not excluded" in told
    assert "C = 6 N D; the FLOPs counted are 1.00 to 1.00 times that" in content_sizes.sizes_method([known])


def test_waste_is_that_of_the_policy_through_our_own_optimum(known: OptimalSize) -> None:
    assert known.fits is not None and known.fits.surface.fit.surface is not None
    surface, ends = known.fits.surface.fit.surface, known.fits.flops_range
    assert ends == pytest.approx((BUDGETS[0], BUDGETS[-1]))
    policy = our_policy(surface, *ends)
    assert policy.p == kaplan_exponent() == 0.73
    assert AllocationGain(surface, policy).old(math.sqrt(ends[0] * ends[1])) == pytest.approx(1.0)
    band = waste_band(known.fits.surface, policy, np.array(ends))
    assert band is not None and len(drawn_surfaces(known.fits.surface)) == DRAWS
    true = AllocationGain(SURFACE, our_policy(SURFACE, *ends))
    for i, waste in enumerate(known.waste):
        found = waste.found
        assert found.interval == pytest.approx((band[0][i], band[1][i])) and found.interval is not None
        assert 1 <= found.interval[0] <= found.gain <= found.interval[1]
        assert found.gain == pytest.approx(true.old(ends[i]), rel=0.05)
    table = content_sizes.waste_table([known], {})
    assert [row[1].text for row in table.rows] == ["cheapest budget", "dearest budget"]


def test_published_exponents_are_those_of_the_papers() -> None:
    assert [number.value for number in EXPONENTS] == [0.50, 0.49, 0.46]
    assert hoffmann_exponents() == (pytest.approx(0.28 / 0.62), 0.50)


@pytest.mark.parametrize(
    ("points", "enough"),
    [
        (runs_of(sizes=4, budgets=BUDGETS[:3], seeds=1), True),
        (runs_of(sizes=3), False),  # four budgets, but a slice of three sizes leaves no residual
        (runs_of(sizes=2), False),
        (runs_of(sizes=7, budgets=BUDGETS[:2]), False),
        (runs_of(sizes=1), False),
    ],
)
def test_only_enough_sizes_at_enough_budgets_are_asked(points: pd.DataFrame, enough: bool) -> None:
    assert answerable(points) is enough
    assert answerable(points.assign(params=math.nan)) is False


def test_without_sizes_or_tokens_nothing_is_asked() -> None:
    found = analysis_of(runs_of())
    assert optimal_sizes(replace(found, points=found.points.drop(columns="tokens")), DRAWS) == ()
    assert optimal_sizes(replace(found, points=runs_of(sizes=2)), DRAWS) == ()


def test_malformed_runs_are_a_reason_and_draw_nothing() -> None:
    found = analysis_of(runs_of())
    bad = found.points.assign(tokens=[0.0, *found.points["tokens"][1:]])
    (one,) = optimal_sizes(replace(found, points=bad), DRAWS)
    assert one.fits is None and one.ways == () and one.waste == () and "bad tokens" in one.why
    [(_, told, doubts)] = content_sizes.sizes_told([one])
    assert told.startswith("No optimal size can be told: points row 1: bad tokens") and doubts == ()
    assert drawn_sizes([one]) == [] and content_sizes.sizes_method([one]) == ""


def test_a_parameter_at_its_bound_is_told_and_nothing_is_read_off_it() -> None:
    points = runs_of(Surface(0.0, 40.0, 40.0, 0.1, 0.1), noise=0.02, seeds=1)
    (one,) = optimal_sizes(replace(analysis_of(runs_of()), points=points), 20)
    assert one.fits is not None and one.fits.surface.fit.status.value == "bound_hit"
    assert one.ways[0].doubt == "the fit ended as bound hit" and one.ways[1].doubt
    [(_, told, doubts)] = content_sizes.sizes_told([one])
    assert "No published exponent is confirmed or excluded: nothing is read off the surface" in told
    assert any("did not converge cleanly: bound_hit" in doubt for doubt in doubts)
    assert content_sizes.sizes_table([one], {}).rows[0][2].kind == "bad"


def test_a_surface_that_repeats_rule_out_is_told(known: OptimalSize) -> None:
    assert not any("does not describe" in told for told in known.warnings)
    points = runs_of()
    bent = points.assign(loss=points["loss"] * np.where(points["flops"] == BUDGETS[1], 1.03, 1.0))
    (one,) = optimal_sizes(replace(analysis_of(points), points=bent), 20)
    [told] = [told for told in one.warnings if "does not describe" in told]
    assert "20 combinations" in told and "repeated runs scatter by 0.2" in told


def test_slices_without_a_minimum_are_left_out_and_told() -> None:
    points = pd.concat([runs_of(budgets=BUDGETS[:1]), runs_of(budgets=BUDGETS[1:], off=30.0)], ignore_index=True)
    (one,) = optimal_sizes(replace(analysis_of(runs_of()), points=points), DRAWS)
    assert one.fits is not None and len(one.fits.slices.used) == 1
    assert [way.name for way in one.ways] == ["surface"]  # one budget makes no line
    assert any("left out: the best run has the smallest or the largest size" in told for told in one.warnings)
    rows = list(answer_rows(Answers(None, "", None, "", (), (), (one,)))["isoflop-modern"])
    counted = [row["counts"] for row in rows if row["series"] == "minimum"]
    assert counted.count(True) == 1 and not [row for row in rows if row["series"] == "exponent of N*"]


def test_a_middle_budget_without_a_minimum_has_no_tokens(known: OptimalSize) -> None:
    far = runs_of(budgets=BUDGETS[1:2], off=30.0)
    points = pd.concat([runs_of(budgets=(BUDGETS[0], *BUDGETS[2:])), far], ignore_index=True)
    (one,) = optimal_sizes(replace(analysis_of(runs_of()), points=points), DRAWS)
    slices = one.ways[1]
    assert slices.rests_on == "3 of 4 budgets" and slices.ratio is None and slices.ratio_interval is None
    assert content_sizes.sizes_table([one], {}).rows[1][6].text == "none: no minimum there"


def test_runs_that_a_search_did_not_choose_do_not_count() -> None:
    points = runs_of().assign(lr=0.01, width=lambda rows: rows["params"])
    worst = [points.iloc[:1].assign(run=f"tried-{lr}", lr=lr, loss=20.0) for lr in (0.1, 0.2, 0.4)]
    (one,) = optimal_sizes(
        replace(analysis_of(runs_of()), points=pd.concat([points, *worst], ignore_index=True)), DRAWS
    )
    assert one.ways[0].a == pytest.approx(SURFACE.a_N, abs=0.03)
    assert "3 runs at rates that a search did not choose left out." in one.warnings


@given(st.floats(0.01, 0.9), st.floats(0.0, 0.5), st.floats(0.01, 0.9), st.floats(0.0, 0.5))
def test_a_range_lies_inside_outside_or_in_part(low: float, width: float, start: float, length: float) -> None:
    interval, published = (low, low + width), (start, start + length)
    told = content_sizes.placed(interval, published)
    shared = max(low, start) <= min(interval[1], published[1])
    assert (told == "no") is (not shared)
    assert (told == "yes") is (low <= start and published[1] <= interval[1])


def way(name: str, interval: tuple[float, float] | None, ratio: float = 20.0, doubt: str = "") -> Way:
    near = None if interval is None else (ratio - 1, ratio + 1)
    return Way(name, 0.5, interval, 1e16, ratio, near, "4 of 4 budgets", doubt)


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ((0.4, 0.6), (0.45, 0.55), "Kaplan's 0.73 is excluded: N* grows more slowly"),
        ((0.8, 0.9), (0.75, 0.85), "Kaplan's 0.73 is excluded: N* grows faster"),
        ((0.4, 0.6), (0.8, 0.9), "Kaplan's 0.73 is excluded by both ways, on opposite sides"),
        ((0.4, 0.8), (0.45, 0.55), "Kaplan's 0.73 is excluded by the slices but not by the surface"),
        ((0.4, 0.8), (0.4, 0.8), "Kaplan's 0.73 is not excluded"),
        ((0.4, 0.6), None, "Kaplan's 0.73 is excluded: N* grows more slowly"),
    ],
)
def test_the_sentence_says_what_both_ways_say(
    known: OptimalSize, first: tuple[float, float], second: tuple[float, float] | None, told: str
) -> None:
    one = replace(known, ways=(way("surface", first), way("slices", second)))
    [(_, said, _)] = content_sizes.sizes_told([one])
    assert told in said and ("read off the slices (no interval)" in said) is (second is None)


def test_ways_that_disagree_are_told(known: OptimalSize) -> None:
    assert _disagreements((way("surface", (0.4, 0.6)), way("slices", (0.4, 0.6), ratio=20.5))) == []
    [told] = _disagreements((way("surface", (0.4, 0.6)), way("slices", (0.4, 0.6), ratio=40.0)))
    assert "disagree about tokens per parameter: 20.0 (19.0 to 21.0) and 40.0" in told


@pytest.fixture(scope="module")
def written(build: Callable[..., Path]) -> Written:
    """The report of a store of an allocation and of an architecture with two sizes per budget."""
    folder = build(archs=(), extras=False)
    points = pd.concat([runs_of(), runs_of(arch="narrow", sizes=2)], ignore_index=True)
    with open_for_driving(folder) as store:
        for row in points.to_dict("records"):
            add_run(store, row)
    stale = folder / "report" / "figures" / "isoflop-gone.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("algoprog.report.page.render_pdf", lambda figure: b"")
        patch.setattr("algoprog.report.explore.E_VALUES", 2)
        return write_report(folder, draws=DRAWS)


def add_run(store: Any, row: dict[Any, Any]) -> None:
    """A finished run with the parameters, tokens and loss of ``row``."""
    counts = {name: round(row[name]) for name in ("params", "tokens", "flops")}
    config = json.dumps({"model": {"depth": 2}, "optim": {"lr": 0.01}})
    run = {"digest": row["run"], "arch": row["arch"], "width": 32, "seed": row["seed"], "config": config, "steps": 100}
    store.add_runs([run | counts])
    store.start_attempt(row["run"], "local-0", {"device": "a synthetic processor"})
    result = {"state": "done", "tokens": counts["tokens"], "flops": counts["flops"], "epochs": 0.1, "loss": row["loss"],
              "bits_per_byte": row["loss"] / 2.05, "seconds": {"train": 1.0, "evaluate": 0.1}}  # fmt: skip
    store.end_attempt(row["run"], "done", None, result)


def test_the_page_has_the_section_figure_tables_and_data(written: Written) -> None:
    html = written.page.read_text()
    start = html.index("<h2>Optimal size</h2>")
    section = html[start : html.index("</section>", start)]
    assert 'id="figure-isoflop-modern"' in section and 'data-file="isoflop-modern.csv"' in section
    assert 'id="optimal-size"' in section and 'id="kaplan-waste"' in section and "narrow" not in section
    assert "Kaplan&#39;s 0.73 is excluded: N* grows more slowly" in section
    names = {path.name for path in written.page.parent.joinpath("figures").iterdir()}
    assert {"isoflop-modern.png", "isoflop-modern.pdf"} <= names and "isoflop-gone.png" not in names


def test_a_store_without_enough_sizes_has_no_section(report: Written, html: str) -> None:
    assert "Optimal size" not in html and not list(report.page.parent.glob("figures/isoflop-*"))


def test_figures_and_their_data_are_of_the_same_fit(known: OptimalSize) -> None:
    found = Answers(None, "", None, "", (), (), (known, replace(known, arch="a/b")))
    assert list(answer_figures(found)) == ["isoflop-modern", "isoflop-a-b"]
    rows = answer_rows(found)["isoflop-modern"]
    assert [row["series"] for row in rows].count("run") == 40 and known.fits is not None
    minima = [row for row in rows if row["series"] == "minimum"]
    assert [row["params"] for row in minima] == [one.params for one in known.fits.slices.slices]
    assert all(row["low"] <= row["params"] <= row["high"] for row in minima if row["counts"])
    [line] = [row for row in rows if row["series"] == "exponent of N*"]
    assert line["value"] == known.ways[1].a and line["low"] < line["value"] < line["high"]
