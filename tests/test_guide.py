"""The guide's page says what the code gives today: its tables, its figures, its commands, and the figures in its prose."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from algoprog.cli import app
from algoprog.scaling import load_runs

GUIDE = Path(__file__).parents[1] / "docs" / "guide"
PAGE = GUIDE / "measuring-progress.md"
SLOW = ("unit",)  # analyses sixty simulated studies

OURS = [str(GUIDE), str(GUIDE.parent)]
sys.path[:0] = OURS  # its modules import each other, as they do when make.py is run
import blocks  # noqa: E402
import example  # noqa: E402
import figures  # noqa: E402
import make  # noqa: E402
import pages  # noqa: E402
import tables_runs  # noqa: E402
import tables_tests  # noqa: E402
from pages import assert_same, numbers  # noqa: E402

sys.path[:] = [path for path in sys.path if path not in OURS]


def written(name: str) -> str:
    return pages.written(PAGE, name)


def commands() -> list[str]:
    """Every line of a code fence, without its comment."""
    fences = re.findall(r"^```\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [line.partition("#")[0].strip() for fence in fences for line in fence.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("guide")
    make.main([str(made)])
    yield made


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in blocks.BLOCKS])
def test_the_tables_are_those_of_the_code(name: str) -> None:
    assert_same(written(name), blocks.BLOCKS[name]())


def test_the_slow_table_by_its_first_study() -> None:
    """The quick part of what `unit` counts: rows that pass for runs move the gap, and narrow its interval where they do not."""
    gap, (low, high) = tables_runs._gap_of_study(0, 0.0, False)
    _, (low_rows, high_rows) = tables_runs._gap_of_study(0, 0.0, True)
    bent, _ = tables_runs._gap_of_study(0, 0.05, True)
    assert low < 0.029 < high and high_rows - low_rows < 0.6 * (high - low)
    assert bent > gap + 0.005


def test_a_changed_number_or_word_is_seen() -> None:
    assert_same(
        "| lstm | 0.0638 (0.0569 to 0.0700) | 1.2e16 | 7,514 |", "| lstm | 0.0638 (0.0570 to 0.0701) | 1.2e16 | 7,530 |"
    )
    for wrong in ("| a | 0.0660 | yes |", "| a | 0.0638 | no |", "| a | −0.0638 | yes |", "| a | 0.0638, 1 | yes |"):
        with pytest.raises((AssertionError, ValueError)):
            assert_same("| a | 0.0638 | yes |", wrong)


def test_markers_are_required(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text(encoding="utf-8").replace("<!-- made: laws -->", ""), encoding="utf-8")
    before = page.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="block laws has 0 places"):
        make.write_page(page)
    assert page.read_text(encoding="utf-8") == before


def test_a_block_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- made: laws -->\nold\nolder\n<!-- end of laws -->\nafter\n", encoding="utf-8")
    monkeypatch.setattr(make, "BLOCKS", {"laws": lambda: "| new |\\1"})
    for _ in range(2):
        make.write_page(page)
        assert (
            page.read_text(encoding="utf-8") == "before\n<!-- made: laws -->\n| new |\\1\n<!-- end of laws -->\nafter\n"
        )


def test_every_figure_is_made_shown_small_and_wide() -> None:
    shown = re.findall(r"!\[[^\]]+\]\(figures/(\w+)\.png\)", PAGE.read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(figures.FIGURES)
    pages.assert_small_and_wide(GUIDE / "figures", shown, 120_000)


def test_a_figure_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "FIGURES", {"gain": figures.FIGURES["gain"]})
    (path,) = figures.write_figures(tmp_path)
    assert path.name == "gain.png" and path.read_bytes().startswith(b"\x89PNG")


def test_the_tables_of_runs_are_read_back_exactly(folder: Path) -> None:
    runs = load_runs(folder / "runs.csv")
    assert (runs["loss"].to_numpy() == example.example().runs["loss"].to_numpy()).all()
    assert runs["run"].nunique() == 78 and len(runs) == 468
    assert load_runs(folder / "rows-as-runs.csv")["run"].nunique() == 468
    assert set(load_runs(folder / "stalls.csv")["arch"]) == {"stalls"}


def test_the_page_has_commands_of_every_kind() -> None:
    used = {line.split()[1] for line in commands() if line.startswith("algoprog ")}
    assert used == {"fit", "ceg", "breaks", "decompose", "power"}
    others = [line for line in commands() if not line.startswith("algoprog ")]
    assert others == ["python docs/guide/make.py guide"]


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("algoprog ")])
def test_every_command_runs(line: str, folder: Path) -> None:
    arguments = [part.replace("guide/", f"{folder}/") for part in shlex.split(line)[1:]]
    if arguments[0] != "power":
        arguments += ["--draws", "100"]  # fewer than the page's, to be quick
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    assert len(result.stdout) > 100


def test_a_command_gives_the_number_of_the_page(folder: Path) -> None:
    line = next(line for line in commands() if line.endswith("--at-flops 1e16"))
    result = CliRunner().invoke(
        app, [part.replace("guide/", f"{folder}/") for part in shlex.split(line)[1:]] + ["--json"]
    )
    found = json.loads(result.stdout)
    row = next(row for row in written("anchors").splitlines() if "1e16 spent by modern" in row)
    gain, low, high = (float(value) for value in numbers(row.split("|")[5])[:3])
    assert found["in_range"] and abs(found["gain"] - gain) < 0.06
    assert abs(found["interval"][0] - low) < 0.06 and abs(found["interval"][1] - high) < 0.06


def test_what_the_prose_says() -> None:
    """Numbers and claims outside the tables."""
    truth, analysis = example.TRUTH, example.example().analysis
    spent = float(analysis.points["flops"].sum())
    cheaper = float(analysis.points.loc[analysis.points["flops"] < 1.1e17, "flops"].sum())
    assert round(spent / 1e14 / 3600) == 38 and round(cheaper / 1e14 / 3600) == 4
    assert round(2 ** (truth["modern"].alpha / truth["lstm"].alpha), 2) == 2.72
    assert all(law.n_points == law.n_runs / 2 for law in analysis.laws)
    errors = {row.decades: row.errors for row in tables_tests.planned().rows}
    assert 2 < errors[2].shared / errors[3].shared < 2.3  # five times the runs
    assert 3.8 < errors[3].separate / errors[3].shared < 4.0  # fifteen times the runs
    tested = {arch: test for arch, (test, _) in tables_tests.law_tests().items()}
    assert tables_tests.chow_p(tested["modern"]) < 0.05 and not tested["modern"].claimed
    assert tested["stalls"].claimed and example.stalling().alpha1 == 0.094 and example.stalling().alpha2 == 0.054
    assert f"{example.FRONTIER_2023:.2e}" == "1.34e+22"
    gaps = {one.archs: one.sampling for one in analysis.sources if one.quantity == "gap"}
    alphas = [row.alpha for row in analysis.laws if row.arch in ("retro", "modern")]
    ends = gaps["retro", "modern"]
    assert ends is not None
    assert all(wide is not None and wide[1] - wide[0] > 3 * (ends[1] - ends[0]) for wide in alphas)


@pytest.mark.parametrize("module", [make, example, blocks, figures], ids=lambda module: str(module.__name__))
def test_modules_come_from_the_guide(module: ModuleType) -> None:
    """None of their short names is taken by an installed package."""
    assert module.__file__ is not None and Path(module.__file__).parent == GUIDE
