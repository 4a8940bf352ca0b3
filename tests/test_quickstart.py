"""The real quickstart, undisturbed and killed ten times: the same result. Slow: a quarter of an hour on two cores."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from algoprog.sweep.store import FILE, open_for_reading

KILLS = 10


def start(out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "algoprog.cli", "quickstart", "--out", str(out), "--json"]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def finish(out: Path) -> dict[str, Any]:
    process = start(out)
    output, _ = process.communicate(timeout=1800)
    assert process.returncode == 0
    result: dict[str, Any] = json.loads(output)
    return result


def results(out: Path) -> list[dict[str, Any]]:
    """Finished runs without their times."""
    with open_for_reading(out) as store:
        return [{key: value for key, value in point.items() if key != "seconds"} for point in store.points()]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_kills_change_nothing(tmp_path: Path) -> None:
    undisturbed = finish(tmp_path / "a")
    assert undisturbed["seconds"]["total"] < 300, "the quickstart takes at most five minutes on two quiet cores"
    draw, finished = random.Random(0), set()
    for _ in range(KILLS):
        process = start(tmp_path / "b")
        time.sleep(draw.uniform(1.0, 40.0))
        process.kill()
        process.communicate()
        if (tmp_path / "b" / FILE).exists():
            now = {point["run"] for point in results(tmp_path / "b")}
            assert finished <= now, "a finished run was lost"
            finished = now
    disturbed = finish(tmp_path / "b")
    assert results(tmp_path / "b") == results(tmp_path / "a")
    assert [disturbed[key] for key in ("laws", "gains")] == [undisturbed[key] for key in ("laws", "gains")]
    with open_for_reading(tmp_path / "b") as store:
        done = [attempt["digest"] for attempt in store.attempts() if attempt["outcome"] == "done"]
    assert len(done) == len(set(done)) == undisturbed["planned"], "a finished run was repeated"


@pytest.mark.slow
def test_every_architecture_beats_the_unigram_model(tmp_path: Path) -> None:
    result = finish(tmp_path)
    for arch in ("modern", "retro", "lstm"):
        best = min(point["loss"] for point in results(tmp_path) if point["arch"] == arch)
        assert best < result["baselines"]["unigram"] - 1.0, arch
