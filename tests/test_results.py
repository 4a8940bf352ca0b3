"""The page of results says what the committed runs give today: its tables, its figures, and the estimates in its prose."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGE, FOLDER = DOCS / "results.md", DOCS / "results"

OURS = [str(FOLDER), str(DOCS)]
sys.path[:0] = OURS
import drawings  # noqa: E402
import pages  # noqa: E402
import records  # noqa: E402
import tables  # noqa: E402

sys.path[:] = [path for path in sys.path if path not in OURS]


@pytest.mark.parametrize("name", list(tables.BLOCKS))
def test_the_tables_are_those_of_the_runs(name: str) -> None:
    pages.assert_same(pages.written(PAGE, name), tables.BLOCKS[name]())


def test_every_sweep_has_its_runs_and_a_record() -> None:
    assert set(records.about()) == set(records.SWEEPS) == {path.stem for path in (FOLDER / "runs").iterdir()}
    for sweep in records.SWEEPS:
        runs, told = records.runs(sweep), records.about()[sweep]
        assert (runs["state"] == "done").sum() == told["states"]["done"] and set(runs["flop_convention"]) == {
            "causal_exact"
        }
        assert told["commits"] and all(
            re.fullmatch(r"[0-9a-f]{12}(-dirty)?", commit) for commit in told["commits"]
        )  # the page says what was dirty


def test_every_figure_is_made_shown_small_and_wide() -> None:
    shown = re.findall(r"!\[[^\]]+\]\(results/figures/([\w-]+)\.png\)", PAGE.read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(drawings.FIGURES)
    pages.assert_small_and_wide(FOLDER / "figures", shown, 200_000)


def test_every_estimate_of_the_prose_stands_in_a_table() -> None:
    """Estimates with intervals, outside of the blocks that code writes."""
    text = PAGE.read_text(encoding="utf-8")
    tabled = "".join(pages.written(PAGE, name) for name in tables.BLOCKS)
    for name in tables.BLOCKS:
        text = pages.block(name).sub("", text)
    found = re.findall(r"\d[\d.]*\s\(\d[\d.]* to \d[\d.]*\)", text)
    assert len(found) >= 6
    for estimate in found:
        assert " ".join(estimate.split()) in tabled, estimate


def test_ratio_offsets_are_recovered() -> None:
    """Known offsets on a parabola come back inside their intervals, in the study's units, whatever the noise of 0.01."""
    rng = np.random.default_rng(0)
    truth = {10.0: 0.03, 20.0: 0.0, 40.0: 0.02, 80.0: 0.08}
    ratio = np.repeat(list(truth), 12)
    compute = 10 ** rng.uniform(10, 11.5, ratio.size)
    x = np.log10(compute)
    noiseless = 4 - 0.4 * (x - 10) + 0.05 * (x - 10) ** 2 + np.array([truth[one] for one in ratio])
    for loss, room in ((noiseless, 1e-9), (noiseless + rng.normal(0, 0.01, ratio.size), 0.02)):
        found = {level: (value, ends) for level, value, ends in tables.ratio_offsets(compute, ratio, loss)}
        assert found[20.0] == (0.0, None)
        for level, (value, ends) in found.items():
            assert value == pytest.approx(truth[level], abs=room)
            if ends is not None and room > 1e-6:
                assert ends[0] < truth[level] < ends[1]
