"""Calibration: the choice follows from the timings, changes no loss, is kept, and is made only where it can pay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from algoprog.config import BudgetConfig, InputError, RunConfig
from algoprog.recipes import resolve
from algoprog.sweep import calibration, commands
from algoprog.sweep.calibration import (
    Advice,
    Calibration,
    Candidate,
    Timed,
    calibrate,
    candidates,
    choose,
    default_candidate,
)
from algoprog.sweep.plan import PlannedRun
from algoprog.sweep.store import open_for_reading
from algoprog.training.budget import plan_work

DEFAULT = Candidate(2, 1, True)
OTHER = Candidate(1, 2, True)


def run_of(tokens: int, width: int = 16) -> PlannedRun:
    config: RunConfig = resolve(
        "lstm", width, BudgetConfig(tokens=tokens), data={"corpus": "random", "tokenizer": "bpe-300"}, lr=0.01, seed=0,
        precision="fp32", overrides={"batch": 2, "model": {"context": 32}}, where="test",
    )  # fmt: skip
    return PlannedRun(config, plan_work(config))


def test_candidates_fill_the_cores_and_start_with_the_default() -> None:
    for cores in (1, 2, 6, 16):
        found = candidates(cores)
        assert found[0] == default_candidate(cores) and len(set(found)) == len(found)
        assert all(1 <= c.workers * c.threads <= cores for c in found)


@pytest.mark.parametrize(
    ("speed", "iqr", "same", "chosen"),
    [
        (150.0, 5.0, True, OTHER),
        (150.0, 5.0, False, DEFAULT),  # faster, but it changes losses
        (104.0, 5.0, True, DEFAULT),  # within the spread
        (150.0, 80.0, True, DEFAULT),
        (90.0, 1.0, True, DEFAULT),
        (None, None, False, DEFAULT),
    ],
)
def test_choice(speed: float | None, iqr: float | None, same: bool, chosen: Candidate) -> None:
    timed = (Timed(DEFAULT, 100.0, 5.0, 5, True), Timed(OTHER, speed, iqr, 5, same))
    assert choose(timed)[0] == chosen


def test_a_short_sweep_is_not_calibrated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(calibration, "measure", lambda *_: pytest.fail("measured"))
    found = calibrate([run_of(1000)], 2, tmp_path)
    assert found.chosen == DEFAULT and "too short" in found.reason and not any(tmp_path.iterdir())


def test_a_calibration_is_kept_and_a_damaged_one_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[str] = []

    def measure(run: PlannedRun, cores: int, name: str) -> Calibration:
        made.append(name)
        timed = (Timed(DEFAULT, 100.0, 1.0, 5, True),)
        return Calibration(OTHER, "because", name, "cpu", timed, (Advice("bf16", 0.5, "how"),), 1.0)

    monkeypatch.setattr(calibration, "measure", measure)
    monkeypatch.setattr(calibration, "LEAST_FLOPS", 1)
    runs = [run_of(1000), run_of(64_000, width=32)]  # the second is most of the work
    first = calibrate(runs, 2, tmp_path)
    assert calibrate(runs, 2, tmp_path) == first and made == ["lstm at width 32, batch 2"]
    calibrate(runs, 4, tmp_path)  # another number of cores is another question
    assert len(made) == 2
    for path in (tmp_path / "calibration").iterdir():
        path.write_text('{"chosen": 3}')
    assert calibrate(runs, 2, tmp_path) == first and len(made) == 3


def test_measuring_finds_speeds_and_compares_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "ROUNDS", 2)
    monkeypatch.setattr(calibration, "candidates", lambda cores: [Candidate(1, 1, True), Candidate(1, 1, False)])
    monkeypatch.setattr(calibration, "default_candidate", lambda cores: Candidate(1, 1, True))
    monkeypatch.setattr(calibration, "cpu_features", set)
    found = calibration.measure(run_of(1000), 1, "tiny")
    assert [row.same_losses for row in found.timed] == [True, True]  # an allocator changes no number
    assert all(row.tokens_per_s is not None and row.tokens_per_s > 0 for row in found.timed)
    half, larger = found.advice
    assert (
        half.ratio is None
        and "none of" in str(half.reason)
        and larger.setting == "batch 4"
        and larger.ratio is not None
    )


def test_a_shape_that_cannot_run_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "candidates", lambda cores: [DEFAULT])
    monkeypatch.setattr(calibration, "_time", lambda *_: ([], [], "out of memory"))
    with pytest.raises(InputError, match="out of memory"):
        calibration.measure(run_of(1000), 2, "huge")


class _Tokens:
    fingerprint = "random"


def test_the_choice_is_used_and_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chosen = Calibration(OTHER, "because", "shape", "cpu")
    monkeypatch.setattr(commands, "calibrate", lambda runs, cores: chosen)
    monkeypatch.setattr(commands, "_gpus", lambda: 0)
    tokens: Any = _Tokens()
    assert commands.settle([run_of(1000)], tokens, tmp_path, None, None) == OTHER
    with open_for_reading(tmp_path) as store:
        assert store.meta()["calibration"]["chosen"] == {"workers": 1, "threads": 2, "tuned": True}
    assert commands.settle([run_of(1000)], tokens, tmp_path, 3, None) == Candidate(3, 1, True)
    assert commands.settle([run_of(1000)], tokens, tmp_path, None, 2).threads == 2
    monkeypatch.setattr(commands, "calibrate", lambda *_: pytest.fail("nothing is left to do"))
    commands.settle([], tokens, tmp_path, None, None)
