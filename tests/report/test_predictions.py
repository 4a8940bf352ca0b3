"""Predictions are stored before the runs they are about, never changed, and checked afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from algoprog.data.store import TokenStore
from algoprog.report.predictions import check_store, predict_store
from algoprog.scaling import load_runs
from algoprog.sweep.driver import run_sweep
from algoprog.sweep.executors import Listener, Task
from algoprog.sweep.progress import PlainProgress
from algoprog.sweep.rounds import Rounds
from algoprog.sweep.store import open_for_reading
from algoprog.sweep.sweep_file import SweepConfig, load_sweep

SMALL, LARGE = [5e9, 8e9, 1.3e10, 2e10, 3.2e10, 5e10], [8e10, 1.6e11]


class Lawful:
    """Losses of a power law with small seeded wiggles; ``bent`` makes runs above 1e11 FLOPs worse by that factor."""

    def __init__(self, bent: float = 1.0) -> None:
        self.bent, self.order = bent, list[float]()

    def run(self, tasks: Sequence[Task], listener: Listener) -> None:
        for task in tasks:
            flops = float(task.config["budget"]["flops"])
            self.order.append(flops)
            listener.started(task.digest, "lawful", {})
            loss = (1 + 40 * flops**-0.1) * (1 + 0.002 * (-1) ** len(self.order)) * (self.bent if flops > 1e11 else 1)
            result = {"state": "done", "message": None, "loss": loss, "tokens": 1, "flops": flops}
            listener.ended(task.digest, "done", None, result)


@pytest.fixture
def sweep(tmp_path: Path) -> SweepConfig:
    values: dict[str, Any] = {
        "name": "t",
        "data": {"tokenizer": "bpe-300"},
        "settings": {"batch": 4},
        "predict_from": 7e10,
        "grids": [{"arch": "modern", "width": 16, "flops": SMALL + LARGE}],
    }
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(values))
    return load_sweep(tmp_path / "s.yaml")


def execute(sweep: SweepConfig, tokens: TokenStore, out: Path, pool: Lawful) -> dict[str, Any]:
    rounds = Rounds(sweep, "fp32", "s.yaml", predict_store)
    assert run_sweep(sweep, rounds.first(), tokens, pool, out, PlainProgress(), rounds).complete
    with open_for_reading(out) as store:
        return dict(store.meta()["predictions"])


def test_small_budgets_first_then_predictions_then_large_ones(
    sweep: SweepConfig, periodic: TokenStore, tmp_path: Path
) -> None:
    pool = Lawful()
    made = execute(sweep, periodic, tmp_path / "out", pool)
    assert sorted(pool.order[:6]) == SMALL and sorted(pool.order[6:]) == LARGE
    assert [one["flops"] for one in made["predictions"]] == LARGE and made["runs"] == 6
    assert execute(sweep, periodic, tmp_path / "out", Lawful()) == made, "a second start changes no prediction"
    checks = check_store(made, load_runs(tmp_path / "out"))
    assert [one.inside for one in checks] == [True, True] and all(one.runs == 1 for one in checks)


def test_a_break_is_seen(sweep: SweepConfig, periodic: TokenStore, tmp_path: Path) -> None:
    made = execute(sweep, periodic, tmp_path / "out", Lawful(bent=1.4))
    near, far = check_store(made, load_runs(tmp_path / "out"))
    assert near.inside is True and far.inside is False and far.measured is not None
    assert far.measured > far.prediction.loss


def test_what_cannot_be_predicted_is_said(tmp_path: Path, sweep: SweepConfig, periodic: TokenStore) -> None:
    none_below = sweep.model_copy(update={"predict_from": 1})
    made = execute(none_below, periodic, tmp_path / "out", Lawful())
    assert made["predictions"] == [] and "run" in made["problem"]
    assert check_store(made, pd.DataFrame({"run": ["a"], "arch": ["m"], "flops": [1.0], "loss": [1.0]})) == ()
    assert check_store({"predictions": [{"arch": 1}]}, pd.DataFrame()) == () == check_store(None, pd.DataFrame())
