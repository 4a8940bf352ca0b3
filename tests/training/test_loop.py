"""The loop learns, repeats itself bit for bit, resumes exactly, and stops at its budget."""

from __future__ import annotations

import ast
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from algoprog.config import BudgetConfig, InputError, RunConfig
from algoprog.data.store import TokenStore
from algoprog.models import build_model, model_flops
from algoprog.recipes import resolve
from algoprog.training import loop
from algoprog.training.budget import plan_work
from algoprog.training.checkpoint import Checkpoints
from algoprog.training.engines import Engine
from algoprog.training.evaluate import evaluate, padded_rows
from algoprog.training.loop import Stopped, train
from algoprog.training.outcome import Outcome

ARCHES = ["modern", "retro", "lstm"]
LEARNING_RATES = {"modern": 0.01, "retro": 0.01, "lstm": 0.05}


def run(arch: str = "modern", tokens: int = 30 * 4 * 16, lr: float = 0.01, **overrides: object) -> RunConfig:
    settings = {"batch": 4, "model": {"context": 16}, "data": {"tokenizer": "bpe-300"}, **overrides}
    if arch.startswith("lstm"):
        settings["model"] = {**settings["model"], "bptt": 8}  # type: ignore[dict-item]
    return resolve(arch, 16, BudgetConfig(tokens=tokens), lr=lr, overrides=settings)


def same(a: Outcome, b: Outcome) -> bool:
    return dataclasses.replace(a, seconds={}) == dataclasses.replace(b, seconds={})


@pytest.mark.parametrize("arch", ARCHES)
def test_learns_and_repeats_itself_bit_for_bit(arch: str, periodic: TokenStore, engine: Engine) -> None:
    rows: list[list[dict[str, float]]] = [[], []]
    config = run(arch, tokens=19200, lr=LEARNING_RATES[arch])
    first, second = (train(config, periodic, engine, on_metrics=r.append) for r in rows)
    assert first.state == "done" and first.loss is not None and first.loss < 0.6 * math.log(300)
    assert rows[0] == rows[1] and same(first, second)
    assert first.steps == 300 and first.tokens == 19200 and rows[0][-1]["step"] == 300
    assert first.flops == model_flops(run(arch).model).training_total * 4 * 300
    assert first.bits_per_byte == pytest.approx(first.loss / math.log(2) * 1000 / 2000)


@pytest.mark.parametrize("arch", ARCHES)
def test_stop_and_resume_equals_an_undisturbed_run(
    arch: str, periodic: TokenStore, engine: Engine, tmp_path: Path
) -> None:
    config = run(arch)
    whole = train(config, periodic, engine)
    rows: list[dict[str, float]] = []
    checkpoints = Checkpoints(tmp_path, "x")
    for stop_at in (7, 20):
        rows.clear()
        with pytest.raises(Stopped):
            train(config, periodic, engine, checkpoints=checkpoints, on_metrics=rows.append,
                  should_stop=lambda stop_at=stop_at: bool(rows) and rows[-1]["step"] >= stop_at - 1)  # fmt: skip
    rows.clear()
    resumed = train(config, periodic, engine, checkpoints=checkpoints, on_metrics=rows.append)
    assert same(whole, resumed)
    assert [row["step"] for row in rows] == list(range(1, 31))


def test_seeds_differ(periodic: TokenStore, engine: Engine) -> None:
    losses = {train(run(seed=seed), periodic, engine).loss for seed in (0, 1)}
    assert len(losses) == 2


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop"])
@pytest.mark.parametrize("schedule", ["cosine", "inverse_sqrt", "linear", "constant", "wsd"])
def test_every_optimiser_and_schedule_learns(name: str, schedule: str, periodic: TokenStore, engine: Engine) -> None:
    settings = {"name": "sgd", "momentum": 0.9} if name == "sgd" else {"name": name}
    config = run(lr=0.3 if name == "sgd" else 0.005, tokens=60 * 64, optim=settings, schedule={"name": schedule})
    outcome = train(config, periodic, engine)
    assert outcome.loss is not None and outcome.loss < math.log(300) - 0.5


def test_budget_in_flops_is_the_most_whole_steps(periodic: TokenStore, engine: Engine) -> None:
    step = model_flops(run().model).training_total * 4
    for budget, steps in ((step, 1), (10 * step - 1, 9), (10 * step, 10)):
        config = run().model_copy(update={"budget": BudgetConfig(flops=budget)})
        assert plan_work(config).steps == steps
    outcome = train(config, periodic, engine)
    assert outcome.flops == 10 * step
    with pytest.raises(InputError, match="below one step"):
        plan_work(run().model_copy(update={"budget": BudgetConfig(flops=step - 1)}))
    with pytest.raises(InputError, match="below one step"):
        plan_work(run(tokens=63))
    with pytest.raises(InputError, match="larger than any store"):
        plan_work(run().model_copy(update={"budget": BudgetConfig(tokens=2**62)}))
    by_ratio = plan_work(run().model_copy(update={"budget": BudgetConfig(tokens_per_param=2.0)}))
    assert 0 <= 2 * by_ratio.params - by_ratio.tokens < 64


def test_a_diverging_run_has_no_number(periodic: TokenStore, engine: Engine) -> None:
    outcome = train(run(lr=1e30, optim={"clip": None}), periodic, engine)
    assert outcome.state == "diverged" and outcome.loss is None and outcome.bits_per_byte is None
    assert outcome.message is not None and "not finite at step" in outcome.message
    assert outcome.steps < 30


def test_epochs_are_counted(periodic: TokenStore, engine: Engine) -> None:
    short = dataclasses.replace(periodic, train=periodic.train[:700])
    assert train(run(tokens=64 * 30), short, engine).epochs == pytest.approx(30 * 4 / (700 // 17))


def test_too_little_data_for_a_window(periodic: TokenStore, engine: Engine) -> None:
    with pytest.raises(InputError, match="shorter than one window"):
        train(run(), dataclasses.replace(periodic, validation=periodic.validation[:16]), engine)
    with pytest.raises(InputError, match="too small"):
        train(run(batch=64), dataclasses.replace(periodic, train=periodic.train[:200]), engine)


def test_evaluation_scores_every_target_once(periodic: TokenStore, engine: Engine) -> None:
    config = run("lstm").model
    model = build_model(config, 0)
    scores = evaluate(model, config, periodic.validation, engine)
    assert scores["windowed"].tokens == scores["streaming"].tokens == 1000
    model.eval()
    tokens = torch.from_numpy(periodic.validation[:1001].astype(np.int64))
    total = 0.0
    with torch.no_grad():
        for start in range(0, 1000, 16):
            piece = tokens[start : start + 17]
            total += model(piece[None, :-1], piece[None, 1:])[0].item()
    assert scores["windowed"].loss == pytest.approx(total / 1000, rel=1e-6)


def test_padded_rows_cover_the_split() -> None:
    inputs, targets = padded_rows(np.arange(12), 4, 3)
    assert targets.reshape(-1).tolist() == [*range(1, 12), -100]
    assert inputs.reshape(-1).tolist() == [*range(0, 11), 0]


def test_carried_state_matters_and_resets(periodic: TokenStore, engine: Engine) -> None:
    results = {
        probability: train(
            run("lstm", model={"context": 16, "bptt": 8, "reset_probability": probability}), periodic, engine
        ).loss
        for probability in (0.0, 1.0)
    }
    assert results[0.0] != results[1.0]


def test_the_loop_reads_nothing_from_the_device_but_at_drains() -> None:
    """`.item()` and its relatives stall a GPU; they are allowed where metrics are drained and scores are finished."""
    allowed = {
        ("metrics.py", "drain"),
        ("evaluate.py", "_finish"),
        ("capture.py", "capture"),
    }  # the last before any step
    reads = ("item", "tolist", "cpu", "numpy", "nonzero", "synchronize")
    found = set()
    for path in Path(loop.__file__).parent.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Attribute) and node.attr in reads:
                        found.add((path.name, function.name))
    assert found == allowed
