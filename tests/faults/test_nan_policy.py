"""A loss or gradient that is not finite: the run ends there, or goes on as if that step had not been."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from algoprog.config import InputError
from algoprog.recipes import parse_settings, resolve
from algoprog.training import guard
from benchmarks.faults.nan_injection import (
    OPTIMIZERS,
    STEPS,
    abort_is_right,
    optimizer_settings,
    poisoned_run,
    skip_is_right,
)
from benchmarks.faults.small_runs import ARCHES, small

CASES = [("loss", math.inf, 5), ("gradient", math.nan, 0), ("gradient", -math.inf, STEPS - 1)]


@pytest.mark.parametrize(("number", "optimizer"), list(enumerate(OPTIMIZERS)))
@pytest.mark.parametrize("policy", ["abort", "skip"])
def test_every_optimiser_keeps_to_the_policy(number: int, optimizer: str, policy: str, tmp_path: Path) -> None:
    arch, (place, value, step) = ARCHES[number % 3], CASES[(number + (policy == "skip")) % 3]
    config = small(arch, STEPS, optim=optimizer_settings(optimizer), nonfinite=policy)
    check = abort_is_right if policy == "abort" else skip_is_right
    assert check(config, optimizer, step, place, value, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("policy", ["abort", "skip"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_everything_with_everything(
    arch: str, optimizer: str, policy: str, case: tuple[str, float, int], tmp_path: Path
) -> None:
    config = small(arch, STEPS, optim=optimizer_settings(optimizer), nonfinite=policy)
    check = abort_is_right if policy == "abort" else skip_is_right
    place, value, step = case
    assert check(config, optimizer, step, place, value, tmp_path)


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop", "flat"])
def test_the_checks_notice_a_guard_that_does_nothing(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard.Guard, "judge", lambda self, loss, norm: None)
    config = small("lstm", STEPS, optim=optimizer_settings(optimizer), nonfinite="skip")
    assert not skip_is_right(config, optimizer, 5, "loss", math.nan, tmp_path)


def test_too_many_bad_steps_end_a_run_that_skips(tmp_path: Path) -> None:
    config = small("retro", STEPS, nonfinite="skip", max_skips=2)
    outcome, _, _ = poisoned_run(config, "adamw", {1, 4}, "gradient", math.nan, tmp_path / "two")
    assert outcome.state == "done" and outcome.skipped == 2
    outcome, _, rows = poisoned_run(config, "adamw", {1, 4, 6, 8}, "gradient", math.nan, tmp_path / "four")
    assert outcome.state == "diverged" and outcome.skipped == 2 and outcome.steps == 7
    assert outcome.message is not None and outcome.message.endswith("; 2 bad steps had been skipped before")
    assert [row["step"] for row in rows] == [1, 3, 4, 6] and outcome.train_loss == rows[-1]["loss"]


def test_bad_steps_inside_an_interval_leave_its_mean(tmp_path: Path) -> None:
    """Intervals of two steps: the row of one with a bad step is that of its good step, one with none good has no row."""
    config = small("retro", 200, nonfinite="skip")
    clean, _, all_rows = poisoned_run(config, "adamw", set(), "loss", math.nan, tmp_path / "clean")
    outcome, _, rows = poisoned_run(config, "adamw", {1, 4, 5}, "loss", math.nan, tmp_path / "bad")
    assert clean.skipped == 0 and outcome.skipped == 3 and outcome.state == "done"
    assert [row["step"] for row in rows][:3] == [2, 4, 8] and len(all_rows) == 100
    assert all(math.isfinite(row["loss"]) for row in rows)


def test_the_policy_is_part_of_the_recipe() -> None:
    budget = small("retro").budget
    chosen = resolve("retro", 16, budget, overrides=parse_settings(["nonfinite=skip", "max_skips=3"]))
    assert chosen.nonfinite == "skip" and chosen.max_skips == 3
    assert chosen.digest("x") != resolve("retro", 16, budget).digest("x")
    with pytest.raises(InputError, match="nonfinite"):
        resolve("retro", 16, budget, overrides=parse_settings(["nonfinite=rollback"]))
