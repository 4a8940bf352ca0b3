"""The page in a real browser: nothing is requested, nothing goes wrong, controls do what they say, at three widths."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from algoprog.report.page import Written

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next((path for path in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser")) if path.exists()), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

WIDTHS = (390, 800, 1280)
READY = "#explore-gains tbody tr"


@dataclass
class Opened:
    """A page and what it complained about: console messages, exceptions, and requests besides the page's own."""

    page: Any
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


def visit(browser: Any, page: Path, width: int, **options: Any) -> Opened:
    opened = Opened(browser.new_page(viewport={"width": width, "height": 900}, **options))
    tab, said, own = opened.page, opened.complaints, page.as_uri()
    tab.on("console", lambda message: said.append(f"console {message.type}: {message.text}"))
    tab.on("pageerror", lambda error: said.append(f"exception: {error}"))
    tab.on("request", lambda ask: None if ask.url == own or ask.url[:5] in ("data:", "blob:") else said.append(ask.url))
    tab.goto(own)
    return opened


@pytest.fixture(scope="module", params=WIDTHS)
def at_width(request: pytest.FixtureRequest, browser: Any, searched_report: Written) -> Iterator[Opened]:
    opened = visit(browser, searched_report.page, request.param)
    opened.page.wait_for_selector(READY)
    yield opened
    opened.page.close()


@pytest.fixture(scope="module")
def desk(browser: Any, searched_report: Written) -> Iterator[Opened]:
    found = visit(browser, searched_report.page, 1280)
    found.page.wait_for_selector(READY)
    yield found
    found.page.close()


RESET = """() => {
  document.querySelectorAll("#controls input[type=checkbox]").forEach((box) => { box.checked = true; });
  document.getElementById("pick-convention").value = 0;
  document.getElementById("pick-loss").value = 15;
  document.getElementById("controls").dispatchEvent(new Event("input"));
}"""


@pytest.fixture()
def opened(desk: Opened) -> Opened:
    """One page for all tests of its controls, which are put back before each."""
    desk.complaints.clear()
    desk.page.evaluate(RESET)
    return desk


def rows(page: Any, table: str) -> list[list[str]]:
    found: list[list[str]] = page.eval_on_selector_all(
        f"#{table} tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return found


def move(page: Any, slider: str, value: int) -> None:
    page.eval_on_selector(
        f"#{slider}",
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }",
        value,
    )


def number(text: str) -> float:
    return float(text.split()[0].replace("−", "-"))


def test_nothing_is_requested_and_nothing_goes_wrong(at_width: Opened) -> None:
    page = at_width.page
    page.mouse.wheel(0, 20000)
    page.wait_for_timeout(200)
    assert at_width.complaints == []
    assert page.eval_on_selector_all("#chart-loss .main-svg, #chart-gain .main-svg", "found => found.length") > 0
    # Nothing sticks out at the side: wide tables scroll by themselves.
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def violations_of(page: Any) -> None:
    """Fail if axe finds a serious violation."""
    axe = pytest.importorskip("axe_core_python.sync_playwright", reason="axe-core-python is not installed")
    text = Path(axe.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
    page.evaluate(text)  # by the debugging protocol, which the page's policy does not bind
    # The rows of the table of all runs are alike, and contrast takes axe a tenth of a second per cell.
    most = "{exclude: [['#runs tbody tr:nth-child(n+4)']]}"
    rules = "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa'], resultTypes: ['violations']}"
    found = page.evaluate(f"axe.run({most}, {rules})")
    assert len(found["passes"]) > 10
    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    assert not [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in serious]


def test_no_serious_violation_of_accessibility(opened: Opened) -> None:
    violations_of(opened.page)


def test_text_of_files_is_shown_as_it_is(opened: Opened) -> None:
    assert "<b>x</b>" in [row[0] for row in rows(opened.page, "explore-laws")]
    assert opened.page.locator("b").count() == 0
    texts = opened.page.evaluate("document.getElementById('chart-loss').data.flatMap(trace => trace.text || [])")
    assert any("&lt;b&gt;x&lt;/b&gt;" in text for text in texts) and not any("<b>" in text for text in texts)


def test_hover_says_which_run_it_is(opened: Opened) -> None:
    points = opened.page.evaluate(
        "document.getElementById('chart-loss').data.filter(trace => trace.mode === 'markers').flatMap(trace => trace.text)"
    )
    assert len(points) == 4 * 5 * 6
    pattern = r"modern, run modern-1e\+10-0.01-0<br>width 32, lr 0.01, seed 0<br>loss [\d.]+ nats/token<br>.*done"
    assert any(re.match(pattern, text) for text in points)
    point = opened.page.locator("#chart-loss .scatterlayer .points path").last
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    opened.page.wait_for_selector("#chart-loss .hoverlayer .hovertext")


def test_architectures_can_be_left_out(opened: Opened) -> None:
    page = opened.page
    assert len(rows(page, "explore-laws")) == 4 and len(rows(page, "explore-gains")) == 3
    page.get_by_role("checkbox", name="gelu").uncheck()
    assert [row[0] for row in rows(page, "explore-laws")] == ["<b>x</b>", "modern", "post-norm"]
    assert "modern over gelu" not in [row[0] for row in rows(page, "explore-gains")]
    names = page.evaluate("document.getElementById('chart-loss').data.map(trace => trace.name)")
    assert not [name for name in names if "gelu" in name]
    page.get_by_role("checkbox", name="modern").uncheck()
    assert rows(page, "explore-gains") == []
    assert opened.complaints == []


def test_the_irreducible_loss_moves_exponents_and_bands(opened: Opened, searched_report: Written) -> None:
    page = opened.page
    free = {row[0]: number(row[1]) for row in rows(page, "explore-laws")}
    assert free == pytest.approx({row.arch: row.law.alpha for row in searched_report.analysis.laws}, abs=2e-3)
    assert page.inner_text("#told-e").startswith("estimated: ")
    move(page, "pick-e", 0)
    assert not page.is_checked("#free-e") and page.inner_text("#told-e") == "held at 0 nats"
    held = {row[0]: number(row[1]) for row in rows(page, "explore-laws")}
    assert all(held[arch] < free[arch] for arch in free)
    page.check("#free-e")
    assert {row[0]: number(row[1]) for row in rows(page, "explore-laws")} == free
    assert opened.complaints == []


def test_the_threshold_moves_gains_and_no_exponent(opened: Opened) -> None:
    page = opened.page
    before, exponents = rows(page, "explore-gains"), rows(page, "explore-laws")
    move(page, "pick-loss", 0)
    after = rows(page, "explore-gains")
    assert [row[1] for row in after] != [row[1] for row in before]
    assert [row[3:] for row in after] == [row[3:] for row in before]  # gap and factor per decade are of the laws alone
    assert rows(page, "explore-laws") == exponents
    last = int(page.get_attribute("#pick-loss", "max"))
    move(page, "pick-loss", last)
    assert {row[2] for row in rows(page, "explore-gains")} == {"no"}  # below all data
    line = page.evaluate("document.getElementById('chart-loss').layout.shapes[0].y0")
    assert page.inner_text("#told-loss") == f"{line:.4g} nats per token"


def test_another_convention_is_another_law(opened: Opened) -> None:
    page = opened.page
    before = rows(page, "explore-laws")
    page.select_option("#pick-convention", label="kaplan_6n")
    after = rows(page, "explore-laws")
    # FLOPs to the power 1.02: exponents are 1.02 times smaller.
    for (_, old), (_, new) in zip(before, after, strict=True):
        assert number(old) / number(new) == pytest.approx(1.02, abs=0.015)
    assert "kaplan_6n" in page.text_content("#chart-loss")
    assert "study_profiler" in page.text_content("#explore")  # and why it is missing
    assert opened.complaints == []


@pytest.mark.parametrize("kind", ["png", "svg", "csv"])
def test_charts_and_figures_can_be_downloaded(opened: Opened, kind: str) -> None:
    page = opened.page
    chart = page.locator(f"button[data-chart=chart-loss][data-kind={kind}]")
    figure = page.locator("#figure-gain [data-png]" if kind == "png" else f"#figure-gain [data-file='gain.{kind}']")
    for name, button in ((f"chart-loss.{kind}", chart), (f"gain.{kind}", figure)):
        with page.expect_download() as waiting:
            button.click()
        assert waiting.value.suggested_filename == name
        saved = Path(waiting.value.path()).read_bytes()
        if kind == "csv":
            table = list(csv.DictReader(io.StringIO(saved.decode())))
            assert len(table) > 20 and "series" in table[0]
        else:
            assert saved.startswith(b"\x89PNG") if kind == "png" else b"<svg" in saved[:2000]
    assert opened.complaints == []


def test_paper_and_browsers_without_scripts_get_the_printed_figure(browser: Any, searched_report: Written) -> None:
    plain = visit(browser, searched_report.page, 800, java_script_enabled=False)
    assert plain.page.locator("#figure-loss img").is_visible() and not plain.page.locator("#explore").is_visible()
    plain.page.close()
    printed = visit(browser, searched_report.page, 800)
    printed.page.wait_for_selector(READY)
    assert not printed.page.locator("#figure-loss img").is_visible()
    printed.page.emulate_media(media="print")
    assert printed.page.locator("#figure-loss img").is_visible() and not printed.page.locator("#explore").is_visible()
    printed.page.close()


def test_what_was_chosen_outlives_a_reload(opened: Opened) -> None:
    page = opened.page
    move(page, "pick-e", 2)
    page.get_by_role("checkbox", name="gelu").uncheck()
    told = page.inner_text("#told-e")
    page.reload()
    page.wait_for_selector(READY)
    assert page.inner_text("#told-e") == told and not page.get_by_role("checkbox", name="gelu").is_checked()


ASKED = ("Interactions", "Breakpoints", "Decomposition", "Reference dependence over compute")


@pytest.fixture(
    scope="module", params=[WIDTHS[0], *(pytest.param(width, marks=pytest.mark.slow) for width in WIDTHS[1:])]
)
def answered(request: pytest.FixtureRequest, browser: Any, asked_report: Written) -> Iterator[Opened]:
    found = visit(browser, asked_report.page, request.param)
    found.page.wait_for_selector("#explore-chain-steps tbody tr")
    yield found
    found.page.close()


def test_sections_that_a_sweep_asks_for_fit_and_are_named(answered: Opened) -> None:
    page = answered.page
    for title in ASKED:
        assert page.get_by_role("heading", name=title, exact=True).is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    names = page.eval_on_selector_all("figure img", "found => found.map(one => one.alt)")
    assert len(names) > 10 and all(len(name) > 40 for name in names)
    assert page.locator("i").count() == 0  # the name of an architecture is text
    assert answered.complaints == []
    violations_of(page)


def test_controls_move_the_decomposition(browser: Any, asked_report: Written) -> None:
    found = visit(browser, asked_report.page, 1280)
    page = found.page
    page.wait_for_selector("#explore-chain-steps tbody tr")
    first = rows(page, "explore-chain-steps")
    assert [row[0] for row in first] == ["lstm to retro", "retro to modern", "total"]
    assert number(first[0][2]) + number(first[1][2]) == pytest.approx(100, abs=2)
    bars = page.evaluate("document.getElementById('chart-chain').data[0].x")
    assert bars[0] + bars[1] == pytest.approx(bars[2], abs=1e-4)
    move(page, "pick-loss", 5)
    second = rows(page, "explore-chain-steps")
    assert second != first and page.inner_text("#told-chain").startswith("modern spends ")
    move(page, "pick-e", 0)
    assert rows(page, "explore-chain-steps") != second
    with page.expect_download() as waiting:
        page.locator("button[data-chart=chart-chain][data-kind=csv]").click()
    table = list(csv.DictReader(io.StringIO(Path(waiting.value.path()).read_text())))
    assert [row["step"] for row in table] == ["lstm to retro", "retro to modern", "total"]
    assert float(table[0]["factor"]) * float(table[1]["factor"]) == pytest.approx(float(table[2]["factor"]), rel=1e-3)
    # Chromium holds back downloads that follow each other too fast, so one of each kind stands for all.
    for kind in ("svg", "csv"):
        for name in ("interactions", "break-lstm", "extrapolation-lstm", "waterfall", "reference"):
            assert page.locator(f"[data-file='{name}.{kind}']").count() == 1
    for name, start in (("interactions.svg", b"<svg"), ("waterfall.csv", b"series,")):
        with page.expect_download() as waiting:
            page.locator(f"[data-file='{name}']").click()
        assert start in Path(waiting.value.path()).read_bytes()[:2000]
    assert found.complaints == []
    page.close()
