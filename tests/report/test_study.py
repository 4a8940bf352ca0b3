"""The study's figures: from its numbers alone, and beside small sweeps of ours whose truth is known."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from typer.testing import CliRunner

from algoprog.cli import app
from algoprog.report.figure_study_allocation import our_policy
from algoprog.report.study import Comparison, compare_with_study, study_figures
from algoprog.report.study_runs import Ours, read_ours
from algoprog.report.study_words import captions
from algoprog.scaling import AllocationGain, InputError, PowerLaw, Surface
from algoprog.scaling.published import changes, frontier_history

LAWS = {"lstm": PowerLaw(2.0, 1.9, 0.10, 1e11), "retro": PowerLaw(2.0, 1.8, 0.12, 1e11)}
LAWS["modern"] = PowerLaw(2.0, 1.6, 0.12, 1e11)
NOISE = 0.001
NAMES = ("scaling", "ablations", "interactions", "allocation", "progress", "sensitivity")


def scaling(rng: np.random.Generator) -> pd.DataFrame:
    rows = [
        {"arch": arch, "width": width, "flops": flops, "loss": law.loss(flops) * (1 + NOISE * rng.standard_normal())}
        for arch, law in LAWS.items() for flops in (2e10, 6e10, 2e11, 6e11) for width in (16, 24)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def ablations(rng: np.random.Generator) -> pd.DataFrame:
    """Undoing a change costs a factor of compute: 1.3 for GELU, 2 for post-norm."""
    costs = {"modern": 1.0, "gelu": 1.3, "post-norm": 2.0}
    rows = [
        {"arch": arch, "flops": flops, "seed": seed,
         "loss": LAWS["modern"].loss(flops / cost) * (1 + NOISE * rng.standard_normal())}
        for arch, cost in costs.items() for flops in (3e10, 9e10, 2.7e11) for seed in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def combined(rng: np.random.Generator) -> pd.DataFrame:
    """All sixteen combinations, each change a factor of 1.5, with a search whose other rates are far worse."""
    rows = []
    for cell in itertools.product((0, 1), repeat=4):
        levels = {name: pair[level] for (name, pair), level in zip(changes.FACTORS.items(), cell, strict=True)}
        arch = "modern" if all(cell) else "".join(map(str, cell))
        for rate in (0.003, 0.01, 0.03):
            for seed in range(2 if rate == 0.01 else 1):
                loss = LAWS["modern"].loss(1e11 / 1.5 ** (4 - sum(cell))) + 0.5 * abs(math.log10(rate / 0.01))
                rows.append(levels | {"arch": arch, "lr": rate, "seed": seed, "flops": 1e11, "loss": loss})
    for flops in (2.5e10, 5e10, 2e11):
        levels = {name: new for name, (_, new) in changes.FACTORS.items()}
        rows.append(
            levels | {"arch": "modern", "lr": 0.01, "seed": 0, "flops": flops, "loss": LAWS["modern"].loss(flops)}
        )
    table = pd.DataFrame(rows)
    return table.assign(loss=table["loss"] * (1 + NOISE * rng.standard_normal(len(table))))


SURFACE = Surface(1.8, 60.0, 90.0, 0.40, 0.34)


def allocation(rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for flops in (4e10, 1.6e11, 6.4e11):
        for params in np.geomspace(0.2, 5.0, 6) * SURFACE.optimal(flops)[0]:
            tokens = flops / 6 / params
            loss = SURFACE.loss(params, tokens) * (1 + NOISE * rng.standard_normal())
            rows.append({"arch": "modern", "flops": flops, "params": params, "tokens": tokens, "loss": loss})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("ours"), np.random.default_rng(5)
    made = {"scaling": scaling, "ablations": ablations, "factorial-cpu": combined, "allocation": allocation}
    for name, make in made.items():
        make(rng).to_csv(folder / f"{name}.csv", index=False)
    return [folder / f"{name}.csv" for name in made]


@pytest.fixture(scope="module")
def ours(tables: list[Path]) -> Ours:
    return read_ours(tables, draws=100)


@pytest.fixture(scope="module")
def figures(ours: Ours) -> dict[str, Figure]:
    return study_figures(ours)


def texts(figure: Figure) -> list[Text]:
    """Titles, labels, notes and legends, and the labels of ticks inside the view."""
    found = []
    for axes in [*figure.axes, *(child for parent in figure.axes for child in parent.child_axes)]:
        found += [*axes.texts, axes.title, axes._left_title]
        legend = axes.get_legend() if isinstance(axes, Axes) else None
        found += [] if legend is None else [*legend.get_texts(), legend.get_title()]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if axis.get_visible() and low <= tick.get_loc() <= high]
            found += [label for tick in ticks for label in (tick.label1, tick.label2) if label.get_visible()]
            found += [axis.label] if axis.get_visible() else []
    return [text for text in [*found, figure._supxlabel] if text.get_text().strip()]


def check_texts(name: str, figure: Figure) -> None:
    figure.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    assert len(boxes) > 8, name
    for i, (text, box) in enumerate(boxes):
        assert box.x0 >= -1 and box.y0 >= -1, (name, text)
        assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, (name, text)
        assert not [other for other, rival in boxes[i + 1 :] if box.overlaps(rival)], (name, text)


def found_in(axes: Axes, gid: str) -> list[object]:
    return [artist for artist in axes.get_children() if artist.get_gid() == gid]


# ---------------------------------------------------------------- from the study alone


def test_without_runs_the_study_is_drawn_and_our_panels_say_so() -> None:
    alone = read_ours([])
    figures = study_figures(alone)
    assert set(figures) == {f"study-{name}" for name in NAMES}
    for name, figure in figures.items():
        check_texts(name, figure)
        if name in ("study-ablations", "study-interactions"):
            assert found_in(figure.axes[0], "bar") and not found_in(figure.axes[1], "bar")
        else:
            words = [text.get_text() for axes in figure.axes for text in axes.texts if text.get_gid() == "nothing"]
            assert words and all("No run of ours" in " ".join(word.split()) for word in words), name
    assert all("Right: no runs." in " ".join(told.split()) for told in captions(alone).values())


def test_printed_values_lie_on_the_redrawn_curves(figures: dict[str, Figure]) -> None:
    """The curves are computed, the points are the printed ones: of the factor, the totals, and the sensitivity."""
    for name, number in (("allocation", 2), ("progress", 2), ("sensitivity", 4)):
        left = figures[f"study-{name}"].axes[0]
        x, y = (np.asarray(part, dtype=float) for part in found_in(left, "curve")[0].get_data())
        printed = found_in(left, "printed")
        assert len(printed) == number
        for point in printed:
            at, value = float(point.get_xdata()[0]), float(point.get_ydata()[0])
            assert np.exp(np.interp(at, x, np.log(y))) == pytest.approx(value, rel=0.01), (name, at)


def test_bars_are_the_published_numbers(figures: dict[str, Figure]) -> None:
    left = figures["study-ablations"].axes[0]
    ends = [bar.get_x() + bar.get_width() for bar in found_in(left, "bar")]
    assert ends == pytest.approx([change.gain.value for change in (*changes.ABLATIONS, *changes.CLASSES)])
    assert not found_in(left, "interval")  # the study has none
    hatched = [bar.get_hatch() is not None for bar in found_in(left, "bar")]
    assert sum(hatched) == 3  # two typed constants, one from the curves


# ---------------------------------------------------------------- beside our runs


def test_our_panels_recover_the_truth(ours: Ours) -> None:
    post_norm, gelu = ours.gain("post-norm", "modern"), ours.gain("gelu", "modern")
    assert post_norm is not None and post_norm.gain == pytest.approx(2.0, rel=0.15)
    assert gelu is not None and gelu.gain == pytest.approx(1.3, rel=0.15)
    assert ours.gain("modern-sgd", "modern") is None
    joint = ours.together.value
    assert joint is not None and joint.excluded["at another learning rate of a search"] == 32
    assert joint.product.measured.gain == pytest.approx(1.5**4, rel=0.2)
    assert joint.product.predicted.gain == pytest.approx(1.5**4, rel=0.3)
    surface = ours.allocation.value
    assert surface is not None and surface.fit.surface is not None
    assert surface.fit.surface.a_N == pytest.approx(SURFACE.a_N, abs=0.05)
    assert ours.laws.value is not None and set(ours.laws.value.fit.laws) == set(LAWS)


def test_single_changes_are_by_repeats_and_classes_by_laws(ours: Ours, tables: list[Path], tmp_path: Path) -> None:
    for old, truth in (("gelu", 1.3), ("post-norm", 2.0)):
        found = ours.gain(old, "modern")
        assert found is not None and not found.by_laws and found.flops == pytest.approx(2.7e11)
        assert found.interval is not None and found.interval[0] < truth < found.interval[1]
    classes = ours.gain("lstm", "modern")
    assert classes is not None and classes.by_laws
    once = pd.read_csv(tables[1]).query("seed == 0")
    once.to_csv(tmp_path / "ablations.csv", index=False)
    alone = read_ours([tmp_path / "ablations.csv"], draws=100)
    lone = alone.gain("gelu", "modern")
    assert lone is not None and lone.by_laws
    right = study_figures(alone)["study-ablations"].axes[1]
    told = [label.get_text() for axes in right.child_axes for label in axes.get_yticklabels()]
    assert sum(text.endswith(", laws") for text in told) == 2  # gelu and post-norm


def test_our_panels_have_intervals_and_no_text_collides(figures: dict[str, Figure], ours: Ours) -> None:
    for name, figure in figures.items():
        check_texts(name, figure)
    bars = figures["study-ablations"].axes[1]
    assert len(found_in(bars, "bar")) == len(found_in(bars, "interval")) == 5  # gelu, post-norm, three pairs of classes
    assert len(found_in(figures["study-interactions"].axes[1], "interval")) == 3
    for name in ("allocation", "progress"):
        assert found_in(figures[f"study-{name}"].axes[1], "band"), name
    assert all(found_in(axes, "band") for axes in figures["study-scaling"].axes[1::2])
    assert len(found_in(figures["study-sensitivity"].axes[1], "interval")) == 2


def test_captions_name_sources_and_differences(ours: Ours) -> None:
    for name, told in captions(ours).items():
        text = " ".join(told.split())
        assert "arXiv 2511.21622; C4, GPT-2 tokens" in text and "Right: " in text and "cannot be compared" in text, name
    text = " ".join(captions(ours)["study-ablations"].split())
    assert "ablations (corpus and tokenizer not stated, 3.0e10 to 2.7e11 FLOPs) and scaling" in text


def test_json_has_our_gains_beside_the_published_ones(ours: Ours) -> None:
    value = json.loads(json.dumps(Comparison(ours, captions(ours), ()).as_json(), allow_nan=False))
    rows = {row["from"]: row for row in value["gains"] if row["to"] == "modern"}
    assert rows["post-norm"]["published"] == 1.87 and rows["post-norm"]["ours"]["gain"] == pytest.approx(2.0, rel=0.15)
    low, high = rows["post-norm"]["ours"]["interval"]
    assert low < 2.0 < high and rows["modern-sgd"]["ours"] is None
    assert rows["post-norm"]["ours"]["by_laws"] is False and rows["lstm"]["ours"]["by_laws"] is True
    assert value["together"]["measured"]["gain_interval"] and value["runs"]["interactions"]["from"].endswith("cpu.csv")


def test_our_policy_is_optimal_in_the_middle_of_our_compute() -> None:
    policy = our_policy(SURFACE, 1e10, 1e12)
    assert policy.p == frontier_history.allocation_gain().policy.p
    assert AllocationGain(SURFACE, policy).old(1e11) == pytest.approx(1.0, abs=1e-9)
    assert AllocationGain(SURFACE, policy).old(1e12) > 1.001


def test_a_store_tells_its_corpus_and_what_it_lacks(demo: Path) -> None:
    """A store of three classes, one seed and no single changes: laws, but neither ablations nor combinations."""
    found = read_ours([demo], draws=100)
    assert found.laws.runs is not None and found.laws.runs.setting == "sotu, bpe-1024"
    assert found.ablations.value is None and "None of demo has single changes" in found.ablations.why
    assert found.together.value is None and "None of demo has all comb" in found.together.why
    study_figures(found)


def test_runs_that_are_not_finished_and_paths_that_are_not_there(tmp_path: Path, tables: list[Path]) -> None:
    unfinished = pd.read_csv(tables[0]).assign(state="diverged")
    unfinished.to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(InputError, match="no finished run"):
        read_ours([tmp_path / "bad.csv"])
    result = CliRunner().invoke(app, ["study", str(tmp_path / "nothing")])
    assert result.exit_code == 2 and len(result.stderr.strip().splitlines()) == 1


def test_the_command_prints_one_object_and_writes_png_and_pdf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Figures are rendered by `write_figures`, which has its own tests, and what they show is tested above.
    for kind in ("png", "pdf"):
        monkeypatch.setattr(f"algoprog.report.figures.render_{kind}", lambda figure: b"rendered")
    result = CliRunner().invoke(app, ["study", "--json", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert {Path(path).name for path in value["figures"]} == {
        f"study-{name}.{kind}" for name in NAMES for kind in ("png", "pdf")
    }
    assert all((tmp_path / Path(path).name).read_bytes() == b"rendered" for path in value["figures"])
    assert set(value["captions"]) == {f"study-{name}" for name in NAMES}
    assert value["runs"]["scaling"] == {
        "from": None,
        "why_not": "No run of ours: scaling laws of lstm, retro and modern.",
    }
    assert value["numbers"]["progress"][0]["source"] == "arXiv 2511.21622"
    shown = CliRunner().invoke(app, ["study"])
    assert shown.exit_code == 0 and "computed again from the constants" in shown.stdout
    assert not compare_with_study([], None).files
