"""Interactions, tests for a break and a decomposed chain: known answers, and reasons where there are none."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from algoprog.report import content_answers
from algoprog.report.answers import Answers, answers, declared_chain, factors_of_store
from algoprog.report.chain import Asked, chain_at, decompose_chain, shares_told
from algoprog.report.explore import explorer
from algoprog.report.figures_answers import answer_figures, answer_rows, drawn_tests
from algoprog.report.law_tests import law_tests
from algoprog.report.page import Written, write_report
from algoprog.report.record import read_record
from algoprog.scaling import InputError, analyse, gain_at_flops, gain_at_loss
from algoprog.scaling.breakpoints.commands import breaks
from algoprog.scaling.decomposition.estimate import Estimate
from algoprog.scaling.interactions.commands import Conversion, interactions

CELLS = {"gelu": 1.3, "post": 1.6, "both-old": 1.7}  # compute that a cell needs over that of modern
CHAIN = ("lstm", "retro", "modern")


@pytest.fixture(scope="module")
def found(asked: Path, asked_report: Written) -> Answers:
    return answers(asked, asked_report.analysis, read_record(asked), draws=100)


def test_interactions_are_those_of_the_command_and_of_the_truth(found: Answers, asked: Path) -> None:
    assert found.factorial is not None and found.factorial_problem == ""
    product = found.factorial.product
    singles = {one.name: one.gain for one in product.singles}
    assert singles["model.activation"] == pytest.approx(CELLS["gelu"], rel=0.05)
    assert singles["model.norm_placement"] == pytest.approx(CELLS["post"], rel=0.05)
    assert product.measured.gain == pytest.approx(CELLS["both-old"], rel=0.05)
    assert product.excess.gain == pytest.approx(1.3 * 1.6 / 1.7, rel=0.06)
    assert product.excess.gain_interval is not None and product.excess.gain_interval[0] > 1
    sentence = content_answers.interactions_sentence(found.factorial)
    assert "together they give less than their product" in sentence
    told = interactions(
        asked, ["model.activation=gelu,swiglu", "model.norm_placement=post,pre"],
        Conversion(law_runs=asked, law_arch="modern"), draws=100,
    )  # fmt: skip
    assert told.product.measured.gain == pytest.approx(product.measured.gain, rel=1e-9)
    assert factors_of_store(asked).factors == {k: tuple(v) for k, v in found.factorial.factors.items()}


def test_sentences_of_interactions_that_cannot_be_told(found: Answers) -> None:
    factorial = found.factorial
    assert factorial is not None
    product = factorial.product
    unknown = replace(product, measured=replace(product.measured, gain=None))
    assert "cannot be told yet" in content_answers.interactions_sentence(replace(factorial, product=unknown))
    wide = replace(product, excess=replace(product.excess, gain_interval=(0.5, 2.0)))
    assert "is not established" in content_answers.interactions_sentence(replace(factorial, product=wide))
    bare = replace(product, excess=replace(product.excess, gain_interval=None))
    assert "without repeated runs" in content_answers.interactions_sentence(replace(factorial, product=bare))
    gap = replace(factorial, product=replace(product, singles=(replace(product.singles[0], gain=None),)))
    assert content_answers.interactions_table(gap).rows[0][1].text == "needs a cell that is missing"


def test_a_break_is_found_where_it_is() -> None:
    rng, knee = np.random.default_rng(1), 3e11
    flops = np.array([1e10 * 2.0**i for i in range(12)])
    loss = 2.0 + 1.2 * (flops / knee) ** np.where(flops < knee, -0.25, -0.06) * np.exp(0.002 * rng.standard_normal(12))
    [bent] = law_tests(analyse(pd.DataFrame({"arch": "bent", "flops": flops, "loss": loss}), draws=100), 199)
    assert bent.test is not None and bent.test.claimed and bent.test.evidence is not None
    low, high = bent.test.evidence.position.interval
    assert low <= knee * 1.3 and high >= knee / 1.3
    [row] = content_answers.breaks_table([bent], {}).rows
    assert row[2].text == "yes" and row[-1].value is None
    assert "A break is claimed at" in content_answers.breaks_sentences([bent])[0][1][0]


def test_no_break_is_found_where_none_is(found: Answers, asked: Path) -> None:
    tested = [one for one in found.laws if not one.too_few]
    assert [one.arch for one in tested] == ["<i>x</i>", "lstm", "modern", "retro"]
    assert not any(one.test is None or one.test.claimed for one in tested)
    assert {one.arch for one in found.laws if one.too_few} == set(CELLS)
    page, alone = tested[2].test, breaks(asked, "modern", draws=100).test
    assert page is not None and page.evidence is not None and alone.evidence is not None
    assert page.evidence.p_value == alone.evidence.p_value  # the page and the command agree
    table = content_answers.breaks_table(found.laws, {})
    assert [row[0].text for row in table.rows] == [one.arch for one in tested]
    assert any(row[-1].value is not None and row[-1].value > 0 for row in table.rows)
    assert "gelu (1)" in content_answers.untested_sentence(found.laws)
    assert all("licensed" in " ".join(said).lower() for _, said in content_answers.breaks_sentences(found.laws))
    assert "simulated" in content_answers.breaks_method(found.laws)


def test_more_than_a_page_can_wait_for_is_told(asked_report: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("algoprog.report.law_tests.MOST_POINTS", 8)
    assert {one.skipped.split(";")[0] for one in law_tests(asked_report.analysis, 19) if not one.too_few} == {
        "a page tests frontiers of at most 8 points"
    }
    monkeypatch.setattr("algoprog.report.law_tests.MOST_POINTS", 60)
    monkeypatch.setattr("algoprog.report.law_tests.MOST_ARCHS", 1)
    some = law_tests(asked_report.analysis, 19)
    assert [one.arch for one in some if one.test is not None] == ["<i>x</i>"]
    assert "at most 1 architectures" in content_answers.breaks_sentences(some)[1][1][0]
    assert content_answers.breaks_table(some, {}).rows[1][2].text == "not tested here"


def test_factors_of_a_chain_multiply_to_the_gain(found: Answers, asked_report: Written) -> None:
    chain, analysis = found.chain, asked_report.analysis
    assert chain is not None and not chain.timed
    part = chain.span.composed
    total = gain_at_flops(analysis.fit, "lstm", "modern", chain.flops, boot=analysis.boot)
    assert part.total.value == pytest.approx(total.gain, rel=1e-9) and total.in_range
    assert part.total.interval == pytest.approx(total.interval, rel=1e-9)
    assert math.prod(one.value for one in part.factors.values()) == pytest.approx(part.total.value, rel=1e-9)
    assert sum(one.value for one in part.shares.values()) == pytest.approx(1.0)
    first = gain_at_flops(analysis.fit, "lstm", "retro", chain.flops)
    assert part.factors["lstm to retro"].value == pytest.approx(first.gain, rel=1e-9)
    table = content_answers.chain_table(chain)
    assert [row[0].text for row in table.rows] == ["lstm to retro", "retro to modern", "total"]
    assert "%" in table.rows[0][2].text and "of its logarithm come from" in content_answers.chain_sentence(chain)


def test_without_years_growth_is_per_decade_of_compute(found: Answers, asked_report: Written) -> None:
    chain, fit = found.chain, asked_report.analysis.fit
    assert chain is not None and chain.found.references is not None
    for name, rows in chain.found.references.rows.items():
        at_one, at_ten = (gain_at_flops(fit, name, "modern", c).gain for c in (rows[-1].flops, 10 * rows[-1].flops))
        assert rows[-1].composed.log_rate.value == pytest.approx(math.log(at_ten / at_one), rel=1e-6, abs=1e-9)
        assert chain.inside[name] == tuple(gain_at_flops(fit, name, "modern", row.flops).in_range for row in rows)
    assert [row[4].text for row in content_answers.references_table(chain).rows][-1] == "1, by definition"


def test_with_years_growth_is_per_year(asked_report: Written) -> None:
    analysis = asked_report.analysis
    trend = {"flops": 2e10, "year": 2012.0, "growth": 4.0}
    chain = decompose_chain(analysis, Asked(CHAIN, (2012.0, 2013.0, 2014.0), trend))
    assert chain.timed and chain.flops == pytest.approx(2e10 * 16) and chain.title.startswith("2014: ")
    assert chain.found.references is not None
    row = chain.found.references.rows["lstm"][-1]
    slope = analysis.fit.laws["modern"].alpha / analysis.fit.laws["lstm"].alpha - 1
    assert row.year == 2014 and row.composed.log_rate.value == pytest.approx(slope * math.log(4.0), rel=1e-6)
    table = content_answers.references_table(chain)
    assert table.columns[-1].startswith("factor per year") and table.rows[1][1].text.startswith("2014, ")
    rows = answer_rows(Answers(None, "", chain, "", (), ()))["reference"]
    assert rows[0]["year"] == 2012 and set(answer_figures(Answers(None, "", chain, "", (), ()))) == {
        "waterfall",
        "reference",
    }


def test_nothing_is_shared_where_there_is_no_gain(asked_report: Written) -> None:
    assert not shares_told(Estimate(1.2, (0.9, 1.5))) and not shares_told(Estimate(1.0))
    assert (
        shares_told(Estimate(1.2, (1.1, 1.5))) and shares_told(Estimate(0.5, (0.4, 0.6))) and shares_told(Estimate(2.0))
    )
    chain = decompose_chain(asked_report.analysis, Asked(CHAIN))
    flat = replace(chain.span.composed, total=Estimate(1.1, (0.8, 1.4)))
    found = replace(chain.found, spans=(replace(chain.span, composed=flat),))
    told = replace(chain, found=found)
    assert (
        content_answers.chain_table(told).rows[0][2].text == "–"
        and "No shares" in content_answers.chain_table(told).caption
    )
    assert "no gain to divide" in content_answers.chain_sentence(told)
    figure = answer_figures(Answers(None, "", told, "", (), ()))["waterfall"]
    assert not [text for text in figure.axes[1].texts if "%" in text.get_text()]
    assert [text for text in figure.axes[0].texts if "%" in text.get_text()]


def test_a_stage_without_a_law_is_a_reason(asked: Path, asked_report: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("algoprog.report.answers.law_tests", lambda analysis, draws: ())
    with pytest.raises(InputError, match="no law for gelu"):
        decompose_chain(asked_report.analysis, Asked(("gelu", "modern")))
    with pytest.raises(InputError, match="no law for none.*no finished run"):
        decompose_chain(asked_report.analysis, Asked(("none", "modern")))
    record = read_record(asked)
    sweep = {
        **record.meta["sweep"],
        "decompose": {"stages": ["gelu", "modern"]},
        "interactions": {"factors": {"model.activation": ["gelu", "relu"]}, "law_arch": "modern"},
    }
    found = answers(asked, asked_report.analysis, replace(record, meta={**record.meta, "sweep": sweep}), 100)
    assert found.chain is None and "no law for gelu" in found.chain_problem
    assert found.factorial is None and "relu" in found.factorial_problem and str(asked) not in found.factorial_problem
    sweep["interactions"]["law_arch"] = "post"
    other = answers(asked, asked_report.analysis, replace(record, meta={**record.meta, "sweep": sweep}), 100)
    assert "no law of post yet" in other.factorial_problem
    nothing = answers(asked, asked_report.analysis, replace(record, meta={}), 100)
    assert (nothing.factorial, nothing.factorial_problem, nothing.chain, nothing.chain_problem) == (None, "", None, "")


def test_a_folder_that_declares_nothing(tmp_path: Path, demo: Path) -> None:
    with pytest.raises(InputError, match="declares no factors"):
        factors_of_store(demo)
    with pytest.raises(InputError, match="no factor.*--factor"):
        factors_of_store(tmp_path)
    assert declared_chain({"sweep": {"decompose": None}}) is None


def test_explorer_divides_the_gain_at_every_threshold(
    asked: Path, asked_report: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("algoprog.report.explore.E_VALUES", 4)
    analysis = asked_report.analysis
    data = explorer(asked, analysis, read_record(asked), draws=30, chain=CHAIN)
    assert data["steps"] == ["lstm to retro", "retro to modern"]
    assert [data["archs"][k]["name"] for k in data["chain"]] == list(CHAIN)
    [convention] = data["conventions"]
    for loss, one in zip(data["losses"], convention["free"]["chain"], strict=True):
        gain = gain_at_loss(analysis.fit, "lstm", "modern", loss)
        assert one["total"][0] == pytest.approx(gain.gain, rel=1e-3)
        assert math.prod(factor[0] for factor in one["factors"]) == pytest.approx(gain.gain, rel=1e-3)
        assert one["shares"] is None or sum(share[0] for share in one["shares"]) == pytest.approx(1.0, abs=1e-4)
        assert one["in_range"] == gain.in_range
    for held in convention["held"]:
        assert [one is None for one in held["chain"]] == [loss <= held["E"] for loss in data["losses"]]
    # The irreducible loss moves the shares.
    middle = len(data["losses"]) // 2
    shares = [held["chain"][middle]["shares"] for held in convention["held"] if held["chain"][middle]]
    assert len({json.dumps(share) for share in shares}) == len(shares) > 1
    composed = chain_at(analysis.fit, analysis.boot, CHAIN, 1e11)
    assert composed.total.value == pytest.approx(gain_at_flops(analysis.fit, "lstm", "modern", 1e11).gain, rel=1e-9)


def test_figures_have_names_for_files_and_rows_of_numbers(found: Answers) -> None:
    figures, rows = answer_figures(found), answer_rows(found)
    drawn = ["i-x-i", "lstm", "modern", "retro"]
    assert set(figures) == {"interactions", "waterfall", "reference"} | {
        f"{kind}-{arch}" for kind in ("break", "extrapolation") for arch in drawn
    }
    assert set(figures) <= set(rows) and all(rows[name] for name in figures)
    assert {row["series"] for row in rows["waterfall"]} == {"composed", "at one compute"}
    same = [replace(one, arch=name) for one, name in zip(found.laws, ("a/b", "a b", "?"), strict=False)]
    names = [name for pair, _ in drawn_tests([one for one in same if not one.too_few]) for name in pair]
    assert len(set(names)) == len(names) and all(set("/ ?") & set(name) == set() for name in names)


def test_the_page_has_the_sections_and_stale_figures_go(asked: Path, asked_report: Written) -> None:
    html = asked_report.page.read_text()
    for title in ("Interactions", "Breakpoints", "Decomposition", "Reference dependence over compute"):
        assert f"<h2>{title}</h2>" in html, title
    assert "<i>x</i>" not in html and "No break is found" in html
    figures = asked_report.page.parent / "figures"
    assert {"break-lstm", "extrapolation-i-x-i", "waterfall"} <= {path.stem for path in figures.glob("*.png")}


@pytest.mark.parametrize("question", ["interactions", "decompose"])
def test_what_cannot_be_answered_is_said_on_the_page(
    build: Callable[..., Path], question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = build(archs=("lstm", "modern"), extras=False)
    meta: dict[str, Any] = {
        "interactions": {"factors": {"model.activation": ["gelu", "swiglu"]}, "law_arch": "modern"},
        "decompose": {"stages": ["lstm", "retro"]},
    }
    with sqlite3.connect(folder / "store.sqlite") as db:
        sweep = json.loads(db.execute("SELECT value FROM meta WHERE key = 'sweep'").fetchone()[0])
        value = json.dumps({**sweep, question: meta[question]})
        db.execute("UPDATE meta SET value = ? WHERE key = 'sweep'", (value,))
    monkeypatch.setattr("algoprog.report.page.render_pdf", lambda figure: b"")
    monkeypatch.setattr("algoprog.report.explore.E_VALUES", 1)
    (folder / "report" / "figures").mkdir(parents=True)
    stale = folder / "report" / "figures" / "break-gone.png"
    stale.write_bytes(b"")
    written = write_report(folder, draws=20)
    html = written.page.read_text()
    told = {"interactions": "nothing to tell yet: ", "decompose": "could not be made: no law for retro"}[question]
    assert told in html and "Too few points on the frontier" in html
    assert not stale.exists() and np.all([path.exists() for path in written.figures])
