"""Searches end at the best learning rate, whatever the order in which their runs end."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from algoprog.config import BudgetConfig, InputError, RunConfig, canonical_json
from algoprog.recipes import resolve
from algoprog.sweep.driver import run_sweep
from algoprog.sweep.executors import Listener, Task
from algoprog.sweep.lr_search import LrSearch, Search, vertex_offset
from algoprog.sweep.plan import expand, next_runs
from algoprog.sweep.progress import PlainProgress
from algoprog.sweep.store import open_for_reading
from algoprog.sweep.sweep_file import load_sweep

CENTRE = 0.01


def make(lr: float, seed: int) -> RunConfig:
    return resolve("modern", 16, BudgetConfig(flops=10**10), lr=lr, seed=seed, data={"tokenizer": "bpe-300"})


def play(search: Search, loss: Callable[[RunConfig], float]) -> tuple[dict[str, float], list[RunConfig]]:
    """All losses of a finished search, and the runs of its last round."""
    losses: dict[str, float] = {}
    last: list[RunConfig] = []
    while runs := search.next(losses):
        last = runs
        losses |= {canonical_json(run): loss(run) for run in runs}
        assert len(losses) < 60, "the search does not end"
    return losses, last


def decades(run: RunConfig) -> float:
    return math.log10(run.optim.lr / CENTRE)


@settings(deadline=None, max_examples=40)
@given(st.floats(-1.1, 1.1), st.floats(0.05, 5), st.sampled_from([0.25, 0.5]))
def test_a_parabola_is_found_exactly(best: float, curvature: float, step: float) -> None:
    search = Search(LrSearch(step_decades=step, reach=1, extend=6), CENTRE, [0, 1, 2], make)
    losses, last = play(search, lambda run: 3 + curvature * (decades(run) - best) ** 2)
    ended = [run for run in last if run.seed == 2]
    assert len(ended) == 1 and abs(decades(ended[0]) - best) <= 0.1 * step + 1e-3
    assert {run.optim.lr for run in last} == {ended[0].optim.lr}, "every seed runs at the optimum"


def test_the_end_of_the_grid_is_extended_and_then_taken() -> None:
    search = Search(LrSearch(step_decades=0.5, reach=1, extend=2), CENTRE, [0], make)
    losses, last = play(search, lambda run: 5 - decades(run))
    assert len(losses) == 5 and max(decades(run) for run in last) == pytest.approx(1.5, abs=1e-3)


def test_diverged_neighbours_leave_the_best_rate_of_the_grid() -> None:
    search = Search(LrSearch(step_decades=0.5, reach=1), CENTRE, [0, 1], make)
    _, last = play(search, lambda run: math.inf if decades(run) > 0.1 else 3 - decades(run))
    assert [decades(run) for run in last] == [pytest.approx(0)] and last[0].seed == 1
    assert vertex_offset([4.0, 3.0, math.inf]) == 0 == vertex_offset([3.0, 3.0, 3.0])


class Pretend:
    """An executor that trains nothing: the loss is a parabola in log lr; runs named in ``broken`` fail."""

    def __init__(
        self,
        broken: Callable[[dict[str, Any]], bool] = lambda config: False,
        norm: Callable[[dict[str, Any]], float] = lambda config: 0.0,
    ) -> None:
        self.broken, self.norm, self.seen = broken, norm, 0

    def run(self, tasks: list[Task], listener: Listener) -> None:
        for task in tasks:
            self.seen += 1
            listener.started(task.digest, "pretend", {})
            lr = task.config["optim"]["lr"]
            if self.broken(dict(task.config)):
                listener.ended(task.digest, "failed", "on purpose", None)
                continue
            result = {
                "state": "done",
                "message": None,
                "loss": 3 + math.log10(lr / 0.004) ** 2 + self.norm(dict(task.config)),
            }
            listener.ended(task.digest, "done", None, result)


def sweep_file(tmp_path: Path, **grid: Any) -> Path:
    grids = [{"arch": ["modern", "relu"], "width": 16, "flops": 1e10, "seed": [0, 1], "lr_search": {}} | grid]
    values = {
        "name": "t",
        "data": {"tokenizer": "bpe-300"},
        "settings": {"batch": 4},
        "variants": {"relu": {"arch": "modern", "settings": {"model": {"activation": "relu"}}}},
        "grids": grids,
    }
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_sweep_searches_and_a_second_start_adds_nothing(tmp_path: Path, periodic: Any) -> None:
    sweep = load_sweep(sweep_file(tmp_path, lr=0.01))
    for executed in (True, False):
        pool = Pretend()
        summary = run_sweep(
            sweep, expand(sweep, "fp32"), periodic, pool, tmp_path / "out", PlainProgress(),
            lambda store: next_runs(sweep, "fp32", store.losses()),
        )  # fmt: skip
        assert summary.complete and (summary.executed > 0) is executed and pool.seen == summary.executed
    with open_for_reading(tmp_path / "out") as store:
        for label in ("modern", "relu"):
            runs = [run for run in store.runs() if run["arch"] == label]
            best = [run for run in runs if run["seed"] == 1]
            assert len(best) == 1 and best[0]["config"]["optim"]["lr"] == pytest.approx(0.004, rel=0.02)


def test_a_failed_run_ends_its_search_alone(tmp_path: Path, periodic: Any) -> None:
    sweep = load_sweep(sweep_file(tmp_path, lr=0.01))
    pool = Pretend(lambda config: config["arch"] == "relu" and config["optim"]["lr"] < 0.009)
    summary = run_sweep(
        sweep, expand(sweep, "fp32"), periodic, pool, tmp_path / "out", PlainProgress(),
        lambda store: next_runs(sweep, "fp32", store.losses()),
    )  # fmt: skip
    assert not summary.complete and summary.states["failed"] == 1
    with open_for_reading(tmp_path / "out") as store:
        assert [run["seed"] for run in store.runs() if run["arch"] == "modern"].count(1) == 1
        assert [run["seed"] for run in store.runs() if run["arch"] == "relu"].count(1) == 0


def test_many_settings_at_once(tmp_path: Path, periodic: Any) -> None:
    pytest.importorskip("optuna")
    space = {"optim.lr": {"low": 1e-4, "high": 1.0, "log": True}, "model.norm": ["rms", "layernorm"]}
    tune = {"space": space, "trials": 24, "together": 4}
    path = sweep_file(tmp_path, arch="modern", lr_search=None, tune=tune)
    sweep = load_sweep(path)
    pool = Pretend(norm=lambda config: 0.3 * (config["model"]["norm"] == "rms"))
    for _ in range(2):
        summary = run_sweep(
            sweep, expand(sweep, "fp32"), periodic, pool, tmp_path / "out", PlainProgress(),
            lambda store: next_runs(sweep, "fp32", store.losses()),
        )  # fmt: skip
        assert summary.complete and pool.seen == 25, "24 trials, and the best one again with the second seed"
    with open_for_reading(tmp_path / "out") as store:
        runs = store.runs()
    best = min(runs, key=lambda run: (run["result"]["loss"], run["seed"]))
    (again,) = [run for run in runs if run["seed"] == 1]
    assert again["config"]["optim"]["lr"] == best["config"]["optim"]["lr"] == pytest.approx(0.004, rel=1.0)
    assert again["config"]["model"]["norm"] == "layernorm"


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"tune": {"space": {"optim.lr": {"low": 1, "high": 0.1}}}}, "make no interval"),
        ({"tune": {"space": {}}}, "space"),
        ({"tune": {"space": {"optim.beta1": [0.0]}}, "lr_search": {}}, "either tune"),
        ({"lr_search": {}, "lr": [0.1, 0.2]}, "from one lr"),
    ],
)
def test_bad_searches(tmp_path: Path, grid: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_sweep(sweep_file(tmp_path, **({"lr_search": None} | grid)))


def test_sizes(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    base = {"name": "t", "data": {"tokenizer": "bpe-300"}}
    sizes = {"cpu": {"grids": [{"arch": "modern", "width": 16, "flops": 1e10}]}, "gpu": {"grids": []}}
    path.write_text(yaml.safe_dump(base | {"sizes": sizes}))
    assert load_sweep(path).name == "t-cpu" and len(expand(load_sweep(path, "cpu"), "fp32")) == 1
    for size, message in (("gpu", "grids"), ("gpuu", "did you mean 'gpu'")):
        with pytest.raises(InputError, match=message):
            load_sweep(path, size)
    path.write_text(yaml.safe_dump(base | sizes["cpu"]))
    with pytest.raises(InputError, match="no sizes"):
        load_sweep(path, "gpu")
    path.write_text(yaml.safe_dump(base | {"sizes": [1]}))
    with pytest.raises(InputError, match="not a mapping"):
        load_sweep(path)
