"""The page: whole, self-contained, escaped, and saying exactly what the analysis says."""

from __future__ import annotations

import base64
import contextlib
import csv
import gzip
import hashlib
import io
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plotly.offline import get_plotlyjs

from algoprog.config import InputError
from algoprog.report.growth import growth
from algoprog.report.numbers import with_interval
from algoprog.report.page import Written, write_report
from algoprog.report.record import busy_seconds
from algoprog.sweep.store import open_for_driving, open_for_reading

Build = Callable[..., Path]
FETCHING = ("src", "href", "srcset", "data", "action", "poster", "xlink:href", "background", "formaction")


class Page(HTMLParser):
    """Tags with attributes, all text, and the tables by id: rows of (text, exact value or None)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tables: dict[str, list[list[tuple[str, float | None]]]] = {}
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._table, self._cell, self._script = "", False, False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        self._script = tag == "script"
        if tag == "script":
            self.scripts.append((found, ""))
        elif tag == "table":
            self._table = found["id"] or ""
            self.tables[self._table] = []
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th"):
            self._cell = True
            self.tables[self._table][-1].append(("", None))
        elif tag == "data":
            text, _ = self.tables[self._table][-1][-1]
            self.tables[self._table][-1][-1] = (text, float(found["value"] or "nan"))

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")
        self._script = self._script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._script:
            attrs, text = self.scripts[-1]
            self.scripts[-1] = (attrs, text + data)
            return
        self.text += data
        if self._cell:
            text, value = self.tables[self._table][-1][-1]
            self.tables[self._table][-1][-1] = (text + data, value)

    def rows(self, table: str) -> list[list[tuple[str, float | None]]]:
        return self.tables[table][1:]


@pytest.fixture()
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are built but not rendered, which takes most of the time; the demo's report renders all of them."""
    monkeypatch.setattr("algoprog.report.page.render_png", lambda figure: b"png")
    monkeypatch.setattr("algoprog.report.page.render_pdf", lambda figure: b"pdf")
    monkeypatch.setattr("algoprog.report.page.render_svg", lambda figure: b"svg")
    monkeypatch.setattr("algoprog.report.explore.E_VALUES", 2)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_page_makes_no_request(page: Page, html: str) -> None:
    targets = [value for _, attrs in page.tags for name, value in attrs.items() if name in FETCHING]
    assert len(targets) == 6  # the icon and five figures
    assert all(target is not None and target.startswith("data:") for target in targets)
    assert not {"iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style


def test_only_the_scripts_of_the_page_may_run(page: Page) -> None:
    [policy] = [attrs["content"] or "" for tag, attrs in page.tags if tag == "meta" and "http-equiv" in attrs]
    allowed = policy.partition("script-src ")[2].split()
    assert policy.startswith("default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'sha256-")
    running = [text for attrs, text in page.scripts if "type" not in attrs]
    [packed] = [text for attrs, text in page.scripts if attrs.get("id") == "plotly-packed"]
    library = gzip.decompress(base64.b64decode(packed)).decode()
    assert library == get_plotlyjs()
    hashes = [hashlib.sha256(text.encode()).digest() for text in (*running, library)]
    assert sorted(allowed) == sorted(f"'sha256-{base64.b64encode(value).decode()}'" for value in hashes)
    assert not [attrs for attrs, _ in page.scripts if "src" in attrs]
    inline = [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert not inline


def test_downloads_hold_what_the_figures_show(page: Page, report: Written) -> None:
    [text] = [text for attrs, text in page.scripts if attrs.get("id") == "files"]
    files = {name: gzip.decompress(base64.b64decode(packed)).decode() for name, packed in json.loads(text).items()}
    assert sorted(files) == sorted(f"{path.stem}.{kind}" for path in report.figures[::2] for kind in ("svg", "csv"))
    assert all("<svg" in text and text.rstrip().endswith("</svg>") for name, text in files.items() if "svg" in name)
    runs = [row for row in csv.DictReader(io.StringIO(files["loss.csv"])) if row["run"]]
    losses = {row["run"]: float(row["loss"]) for row in runs}
    assert losses == dict(zip(report.analysis.points["run"], report.analysis.points["loss"], strict=True))
    chosen = {row["run"] for row in runs if row["series"] == "frontier"}
    assert chosen == set(report.analysis.frontier["run"])
    gains = list(csv.DictReader(io.StringIO(files["gain.csv"])))
    assert {row["series"] for row in gains} == {f"{pair.b} over {pair.a}" for pair in report.analysis.gains}
    assert all(float(row["low"]) <= float(row["gain"]) <= float(row["high"]) for row in gains)


def test_page_is_made_for_phones_and_paper(page: Page, html: str) -> None:
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    assert "@media print" in html
    scrolling = [attrs for tag, attrs in page.tags if attrs.get("class") == "scroll"]
    assert len(scrolling) == len(page.tables) == 11


def test_every_run_is_listed_with_its_state(page: Page, demo: Path) -> None:
    with open_for_reading(demo) as store:
        runs = store.runs()
    rows = page.rows("runs")
    assert [row[0][0] for row in rows] == [run["digest"] for run in runs]
    by_name = {row[0][0]: row for row in rows}
    assert by_name["diverged-run"][2][0] == "diverged"
    assert by_name["diverged-run"][-1][0] == "the loss is not finite at step 7"
    assert by_name["planned-run"][2][0] == "planned"
    for run in runs[:36]:
        assert by_name[run["digest"]][2][0] == "done"
        assert by_name[run["digest"]][10][1] == run["result"]["flops"]
        assert by_name[run["digest"]][11][1] == run["result"]["loss"]


def test_frontier_runs_are_marked(page: Page, report: Written) -> None:
    marked = {row[0][0] for row in page.rows("runs") if row[14][0] == "●"}
    assert marked == set(report.analysis.frontier["run"])
    assert len(marked) == 12


def test_laws_on_the_page_are_those_of_the_analysis(page: Page, report: Written) -> None:
    for row, law in zip(page.rows("laws"), report.analysis.laws, strict=True):
        assert row[0][0].split()[-1] == law.arch
        assert [value for _, value in row[1:4]] == [law.law.alpha, law.law.E, law.law.A]
        assert row[1][0] == with_interval(law.law.alpha, law.alpha)
        assert [value for _, value in row[4:]] == [law.n_points, law.n_runs, *law.flops_range]


def test_gains_on_the_page_are_those_of_the_analysis(page: Page, report: Written) -> None:
    gains = [gain for pair in report.analysis.gains for gain in (pair.at_largest, pair.at_centre)]
    assert {gain.in_range for gain in gains if gain} == {True, False}  # both kinds occur in the demo
    for row, gain in zip(page.rows("gains"), gains, strict=True):
        assert gain is not None
        assert row[0][0] == f"{gain.b} over {gain.a}"
        assert row[2] == (with_interval(gain.gain, gain.interval), gain.gain)
        assert (row[3][0] == "yes") == gain.in_range
        assert [value for _, value in row[4:]] == [gain.flops_b, gain.flops_a, gain.loss]
        assert with_interval(gain.gain, gain.interval) in page.text.partition("Warnings")[0]


def test_dependence_on_scale_is_told_with_its_interval(page: Page, report: Written) -> None:
    for row, pair in zip(page.rows("growth"), report.analysis.gains, strict=True):
        found = growth(report.analysis, pair.a, pair.b)
        assert row[1] == (with_interval(found.gap, found.gap_interval), found.gap)
        assert row[2][1] == found.per_decade
        assert row[3][0].startswith("yes" if found.established else "no")


def test_warnings_come_before_everything_but_the_summary(page: Page, report: Written) -> None:
    assert any("diverged" in warning for warning in report.analysis.warnings)
    assert any("planned" in note for note in report.notes)
    top = " ".join(page.text.partition("Gains\n")[0].split())
    for warning in report.warnings:
        assert " ".join(warning.split()) in top


def test_provenance_is_on_the_page(page: Page) -> None:
    for text in (
        "A sweep made of known laws.", "sotu: Messages to Congress.", "public domain", "f1" * 32, "3,900,000 for training",
        "causal_exact", "python 3.11.7", "torch 2.11.0", "a synthetic processor", "abc123", "5" * 64,
        "algoprog sweep demo --out runs/demo", "wall time", "worker time",
    ):  # fmt: skip
        assert text in page.text, text
    assert "deepspeed" not in page.text  # not installed where the sweep ran


def test_baselines_are_beside_the_best_losses(page: Page, report: Written) -> None:
    best = report.analysis.points.groupby("arch")["loss"].min()
    for row in page.rows("baselines"):
        loss = best[row[0][0].split()[-1]]
        assert [value for _, value in row[1:]] == [loss, 3.80 - loss, 5.95 - loss]


def test_figures_are_on_disk_and_in_the_page(page: Page, report: Written, demo: Path) -> None:
    folder = demo / "report" / "figures"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{name}.{kind}" for name in ("exponents", "gain", "loss", "profile", "sensitivity") for kind in ("pdf", "png")
    ]
    assert set(report.figures) == set(folder.iterdir())
    images = {attrs["src"]: attrs["alt"] for tag, attrs in page.tags if tag == "img"}
    for name in ("loss", "gain", "exponents"):
        png = (folder / f"{name}.png").read_bytes()
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
        inked = (pixels < 250).any(axis=1).mean()
        assert 0.01 < inked < 0.6 and len(np.unique(pixels[::7].astype(np.uint32) @ [65536, 256, 1])) > 50
        alt = images["data:image/png;base64," + base64.b64encode(png).decode()]
        assert alt is not None and len(alt) > 40
        pdf = (folder / f"{name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF-1.") and pdf.rstrip().endswith(b"%%EOF")


def test_json_says_what_the_analysis_says(report: Written) -> None:
    told = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert list(told) == ["page", "figures", "laws", "gains", "sources", "warnings"]
    assert told["page"] == str(report.page) and len(told["figures"]) == 10
    assert [law["alpha"] for law in told["laws"]] == [row.law.alpha for row in report.analysis.laws]
    assert [law["intervals"]["alpha"] for law in told["laws"]] == [
        list(row.alpha or ()) for row in report.analysis.laws
    ]
    pair = report.analysis.gains[0]
    assert pair.at_largest is not None
    assert (told["gains"][0]["from"], told["gains"][0]["to"]) == (pair.a, pair.b)
    assert told["gains"][0]["at_largest"]["gain"] == pair.at_largest.gain
    assert told["gains"][0]["growth"]["gap"] == growth(report.analysis, pair.a, pair.b).gap
    assert told["warnings"] == list(report.warnings)


def test_what_comes_from_files_is_escaped(build: Build, quick: None) -> None:
    evil = "<script>alert('x')</script>"
    meta = {"command": f"echo {evil}", "data": {"corpus": {"name": evil}, "licence": "<img src=http://x>"}}
    folder = build(
        archs=("modern", "<b>bold</b>"), meta={**meta, "sweep": {"name": evil}}, name=lambda digest: f"<i>{digest}</i>"
    )
    html = write_report(folder, draws=100).page.read_text()
    page = Page(html)
    assert not {"b", "i"} & {tag for tag, _ in page.tags}
    assert [attrs.get("id") for attrs, _ in page.scripts] == ["explorer-data", "plotly-packed", "files", None, None]
    assert not [text for _, text in page.scripts if evil in text or "<b>bold" in text]
    assert "<b>bold</b>" in [arch["name"] for arch in json.loads(page.scripts[0][1])["archs"]]
    assert "http://x" not in [attrs.get("src") for _, attrs in page.tags]
    assert page.text.count(evil) >= 4  # title, heading, corpus, command
    assert "<i>diverged-run</i>" in [row[0][0] for row in page.rows("runs")]
    assert "<b>bold</b>" in page.text


def test_the_sweep_says_which_pairs_to_compare(build: Build, quick: None) -> None:
    written = write_report(build(compare=[("modern", "lstm")]), draws=100)
    assert [(pair.a, pair.b) for pair in written.analysis.gains] == [("modern", "lstm")]
    largest = written.analysis.gains[0].at_largest
    assert largest is not None and largest.gain < 1


def test_a_pair_without_a_law_is_told_and_does_not_stop_the_report(build: Build, quick: None) -> None:
    folder = build(compare=[("lstm", "modern"), ("lstm", "retro")])
    with open_for_driving(folder) as store:
        meta = store.meta()["sweep"]
        store.set_meta({"sweep": {**meta, "compare": [["lstm", "modern"], ["lstm", "mamba"]]}})
    written = write_report(folder, draws=100)
    assert [(pair.a, pair.b) for pair in written.analysis.gains] == [("lstm", "modern")]
    assert any("mamba over lstm" in note and "no law for mamba" in note for note in written.notes)
    assert "mamba over lstm" in written.page.read_text()


def test_one_architecture_has_laws_but_no_gains(build: Build, quick: None) -> None:
    folder = build(archs=("modern",))
    stale = folder / "report" / "figures" / "gain.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"from an earlier report")
    written = write_report(folder, draws=100)
    assert not stale.exists()
    assert {path.stem for path in written.figures} == {"loss", "exponents", "profile", "sensitivity"}
    page = Page(written.page.read_text())
    assert "There is no gain to report" in page.text
    assert "laws" in page.tables and "gains" not in page.tables
    assert written.as_json()["gains"] == []


def test_too_few_points_for_a_law_make_a_page_that_says_so(build: Build, quick: None) -> None:
    written = write_report(build(budgets=(1e11,)), draws=100)
    assert written.analysis.laws == ()
    page = Page(written.page.read_text())
    assert "No law could be fitted" in page.text
    assert [attrs.get("id") for attrs, _ in page.scripts] == ["files", None]  # no law: nothing to explore
    assert {path.stem for path in written.figures} == {"loss"}
    assert len(page.rows("runs")) == 9 + 2
    json.dumps(written.as_json(), allow_nan=False)


def test_barely_enough_points_make_laws_that_are_flagged(build: Build, quick: None) -> None:
    """Six points for five parameters: there are laws, but nothing about scale is established."""
    written = write_report(build(budgets=(1e10, 1e11, 1e12), archs=("lstm", "modern")), draws=100)
    assert any("Too few points" in warning for warning in written.warnings)
    assert not growth(written.analysis, *[(p.a, p.b) for p in written.analysis.gains][0]).established
    json.dumps(written.as_json(), allow_nan=False)


def test_losses_that_do_not_beat_counting_are_warned_of(build: Build, quick: None) -> None:
    weak = {"data": {"baselines": {"uniform": 6.9, "unigram": 3.5, "bigram": 3.0}}}
    notes = write_report(build(meta=weak), draws=100).notes
    assert any("lstm" in note and "unigram baseline (3.500)" in note for note in notes)
    assert any("retro" in note and "bigram baseline (3.000)" in note for note in notes)
    assert not any("best loss of modern" in note for note in notes)


def test_a_store_that_says_nothing_about_itself_still_makes_a_page(build: Build, quick: None) -> None:
    folder = build()
    with sqlite3.connect(folder / "store.sqlite") as db:
        db.execute("DELETE FROM meta")
    page = Page(write_report(folder, draws=100).page.read_text())
    assert "unnamed" in page.text and len(page.rows("runs")) == 38


def test_no_store_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no store here"):
        write_report(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "store.sqlite")) as other:
        other.executescript("CREATE TABLE songs (name TEXT); PRAGMA user_version = 1;")
    with pytest.raises(InputError, match="not the store of a sweep"):
        write_report(tmp_path)
    (tmp_path / "store.sqlite").write_bytes(b"this is no database, whatever its name" * 100)
    with pytest.raises(InputError, match="not a readable store"):
        write_report(tmp_path)


def test_no_finished_run_is_one_clear_line(build: Build, quick: None) -> None:
    with pytest.raises(InputError, match="no finished run to report; got '1 diverged, 37 planned'") as error:
        write_report(build(end=False))
    assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_written_is_one_clear_line(build: Build, quick: None) -> None:
    folder = build(budgets=(1e11,))
    (folder / "report").write_text("in the way")
    with pytest.raises(InputError, match="the report cannot be written"):
        write_report(folder, draws=100)


def test_an_old_page_survives_a_failed_write(build: Build, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build(budgets=(1e11,))
    before = write_report(folder, draws=100).page.read_bytes()

    def full_disk(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(InputError, match="No space left on device"):
        write_report(folder, draws=100)
    assert (folder / "report" / "index.html").read_bytes() == before
    assert not [path for path in folder.rglob(".*")]


def test_equal_stores_make_equal_reports(build: Build, quick: None) -> None:
    folder = build(budgets=(1e10, 1e11, 1e12), archs=("lstm", "modern"))
    first = {path: path.read_bytes() for path in _files(write_report(folder, draws=100))}
    assert {path: path.read_bytes() for path in _files(write_report(folder, draws=100))} == first


def _files(written: Written) -> list[Path]:
    return [written.page, *written.figures]


def test_wall_time_counts_overlap_once_and_pauses_not_at_all() -> None:
    spans = [(0.0, 10.0), (5.0, 12.0), (100.0, 103.0), (101.0, 102.0), (200.0, None)]
    assert busy_seconds([{"started": start, "ended": end} for start, end in spans]) == (15.0, 21.0)
    assert busy_seconds([]) == (0.0, 0.0)


def test_reports_need_no_torch() -> None:
    code = "import sys, algoprog.report.page, algoprog.report.tables; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
