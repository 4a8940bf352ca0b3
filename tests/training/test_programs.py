"""A program that has served other runs, and runs that take turns, give the results of runs that are alone in a process."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from algoprog.config import BudgetConfig, InputError, RunConfig
from algoprog.data.store import TokenStore
from algoprog.recipes import resolve
from algoprog.training import execution
from algoprog.training.admission import GAIN, LEVELS, WINDOW_S, Admission
from algoprog.training.checkpoint import Checkpoints
from algoprog.training.clock import PHASES, Clock
from algoprog.training.engines import Engine, Placement
from algoprog.training.execution import choose_execution
from algoprog.training.loop import Run, Stopped, train
from algoprog.training.outcome import Outcome
from algoprog.training.shape import shape_of
from algoprog.training.together import Together
from algoprog.training.warm import KEEP_IDLE, Programs

Rows = list[dict[str, Any]]


def config_of(arch: str, steps: int = 30, lr: float = 0.01, seed: int = 0, **overrides: Any) -> RunConfig:
    model = {"context": 16, **({"bptt": 8} if arch.startswith("lstm") else {}), **overrides.pop("model", {})}
    settings = {"batch": 4, "model": model, "data": {"tokenizer": "bpe-300"}, **overrides}
    return resolve(arch, 16, BudgetConfig(tokens=steps * 64), lr=lr, seed=seed, overrides=settings)


def without_seconds(outcome: Outcome) -> Outcome:
    return dataclasses.replace(outcome, seconds={})


def alone(config: RunConfig, store: TokenStore, engine: Engine, **options: Any) -> tuple[Outcome, Rows]:
    rows: Rows = []
    return without_seconds(train(config, store, engine, on_metrics=rows.append, **options)), rows


def on(programs: Programs, config: RunConfig, **options: Any) -> tuple[Outcome, Rows, Run]:
    rows: Rows = []
    run = Run(config, programs, on_metrics=rows.append, **options)
    return without_seconds(run.complete()), rows, run


USES: dict[str, Callable[..., RunConfig]] = {
    "modern": lambda **o: config_of("modern", **o),
    "retro": lambda **o: config_of("retro", **o),
    "lstm": lambda **o: config_of("lstm", **o),
    "adam": lambda **o: config_of("modern", optim={"name": "adam"}, **o),
    "sgd": lambda **o: config_of("modern", optim={"name": "sgd", "momentum": 0.9}, **o),
    "rmsprop": lambda **o: config_of("modern", optim={"name": "rmsprop", "momentum": 0.9}, **o),
    "dropout": lambda **o: config_of("lstm", model={"dropout": 0.2}, **o),
    "bf16": lambda **o: config_of("lstm", **o).model_copy(update={"precision": "bf16"}),
}


@pytest.mark.parametrize("use", USES)
def test_a_used_program_is_as_good_as_new(use: str, periodic: TokenStore, engine: Engine) -> None:
    """Another seed, rate, schedule and length before it; and a run that diverged."""
    config, programs = USES[use](seed=3), Programs(periodic, engine)
    on(programs, USES[use](seed=1, lr=0.02, steps=7, schedule={"name": "linear"}))
    if use == "modern":
        broken = Run(USES[use](seed=2), programs)
        with torch.no_grad():
            next(broken.program.model.parameters()).fill_(torch.nan)
        assert broken.complete().state == "diverged"
    outcome, rows, run = on(programs, config)
    assert (outcome, rows) == alone(config, periodic, engine)
    assert run.warm and outcome.execution["warm"] is True and run.program.runs == (3 if use == "modern" else 2)


@pytest.mark.parametrize("arch", ["modern", "lstm"])
def test_a_checkpoint_continues_on_a_used_program(
    arch: str, periodic: TokenStore, engine: Engine, tmp_path: Path
) -> None:
    """Loaded state goes into the tensors that were there, for a recorded step knows no others."""
    config, programs = config_of(arch), Programs(periodic, engine)
    rows: Rows = []
    with pytest.raises(Stopped):
        train(config, periodic, engine, checkpoints=Checkpoints(tmp_path, "x"), on_metrics=rows.append,
              should_stop=lambda: len(rows) >= 11)  # fmt: skip
    *_, first = on(programs, config_of(arch, seed=5))
    before = addresses(first)
    outcome, rows, run = on(programs, config, checkpoints=Checkpoints(tmp_path, "x"))
    assert run.program is first.program and addresses(run) == before and 0 < run.first_step < 30
    assert (outcome, rows) == alone(config, periodic, engine)


def addresses(run: Run) -> dict[str, int]:
    """Where everything is that outlives a step."""
    program, names = run.program, {p: name for name, p in run.program.model.named_parameters()}
    tensors: dict[str, Any] = dict(program.model.state_dict())
    tensors |= {"cursor": program.step.inputs.cursor, "rate": program.step.rate}
    tensors |= {
        f"{names[p]}/{key}": value for p, entry in program.optimizer.state.items() for key, value in entry.items()
    }
    tensors |= {f"rate of group {i}": group["lr"] for i, group in enumerate(program.optimizer.param_groups)}
    assert len(tensors) > 3 * len(names)
    return {name: tensor.data_ptr() for name, tensor in tensors.items()}


def test_only_runs_of_one_shape_share_a_program(periodic: TokenStore, engine: Engine) -> None:
    base = config_of("modern")
    same = [config_of("modern", lr=0.5, seed=9, steps=12, schedule={"name": "wsd"})]
    other = [
        config_of("retro"), config_of("modern", batch=8), config_of("modern", optim={"name": "sgd"}),
        config_of("modern", optim={"clip": None}), base.model_copy(update={"precision": "bf16"}),
        config_of("modern", model={"depth": 3}),
    ]  # fmt: skip
    assert {shape_of(config) for config in same} == {shape_of(base)}
    assert len({shape_of(config) for config in (base, *other)}) == 1 + len(other)
    programs = Programs(periodic, engine)
    first = on(programs, base)[2].program
    assert on(programs, other[0])[2].program is not first and on(programs, same[0])[2].program is first
    for depth in range(2, 3 + KEEP_IDLE):
        on(programs, config_of("modern", steps=1, model={"depth": depth}))
    assert on(programs, base)[2].program is not first  # idle ones are kept up to a number


def test_a_program_is_lent_to_one_run_at_a_time(periodic: TokenStore, engine: Engine) -> None:
    programs = Programs(periodic, engine)
    a, b = (Run(config_of("modern", seed=seed), programs) for seed in (0, 1))
    assert a.program is not b.program and a.engine is not b.engine


@pytest.mark.parametrize("at_once", [2, 5])
def test_runs_that_take_turns_equal_runs_alone(at_once: int, periodic: TokenStore, engine: Engine) -> None:
    configs = {
        "a": config_of("modern"), "b": config_of("lstm", steps=12), "c": config_of("modern", seed=1),
        "d": config_of("retro", steps=45), "e": config_of("lstm", seed=2, lr=0.02),
    }  # fmt: skip
    rows: dict[str, Rows] = {name: [] for name in configs}
    together, programs, waiting, outcomes = Together(), Programs(periodic, engine), list(configs), {}
    most = 0
    while waiting or len(together):
        while waiting and len(together) < at_once:
            name = waiting.pop(0)
            assert not together.add(name, lambda n=name: Run(configs[n], programs, on_metrics=rows[n].append))  # type: ignore[misc]
        most = max(most, len(together))
        for end in together.turn():
            assert end.error is None and end.outcome is not None
            outcomes[end.name] = without_seconds(end.outcome)
    assert most == at_once
    for name, config in configs.items():
        assert (outcomes[name], rows[name]) == alone(config, periodic, engine)
    assert together.tokens == sum(outcome.tokens for outcome in outcomes.values())


def test_what_goes_wrong_in_a_run_stays_in_it(periodic: TokenStore, engine: Engine) -> None:
    programs, together = Programs(periodic, engine), Together()
    rows: Rows = []

    def fail(row: dict[str, Any]) -> None:
        raise OSError("disk full")

    assert isinstance(
        together.add("no data", lambda: Run(config_of("modern", batch=10**6), programs))[0].error, InputError
    )
    for name, run in {
        "good": Run(config_of("modern"), programs, on_metrics=rows.append),
        "failing": Run(config_of("modern"), programs, on_metrics=fail),
        "stopped": Run(config_of("lstm"), programs, should_stop=lambda: len(rows) >= 5),
        "diverging": Run(config_of("modern", seed=4), programs),
    }.items():
        if name == "diverging":
            with torch.no_grad():
                next(run.program.model.parameters()).fill_(torch.nan)
        assert not together.add(name, lambda run=run: run)  # type: ignore[misc]
    ends = {}
    while len(together):
        ends.update({end.name: end for end in together.turn()})
    assert isinstance(ends["failing"].error, OSError) and isinstance(ends["stopped"].error, Stopped)
    assert ends["diverging"].outcome is not None and ends["diverging"].outcome.state == "diverged"
    assert ends["good"].outcome is not None
    assert (without_seconds(ends["good"].outcome), rows) == alone(config_of("modern"), periodic, engine)


def test_seconds_add_up_by_phase(periodic: TokenStore, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = train(config_of("modern"), periodic, engine).seconds
    assert set(seconds) <= set(PHASES) and {"build", "train", "evaluate"} <= set(seconds)
    now = [0.0]
    monkeypatch.setattr("algoprog.training.clock.time.perf_counter", lambda: now[0])
    clock = Clock()
    for _ in range(2):
        with clock.phase("train"):
            now[0] += 3
            with clock.phase("write"):
                now[0] += 2
            now[0] += 1
    assert clock.seconds == {"write": 4.0, "train": 8.0}


def rates(per_level: dict[int, float]) -> list[int]:
    """Levels that an admission goes through when ``n`` runs train at ``per_level[n]`` tokens per second."""
    admission, levels = Admission(), [1]
    for _ in range(50):
        level = admission.level
        admission.observe(level, int(per_level[level] * WINDOW_S / 4), WINDOW_S / 4)
        if admission.level != levels[-1]:
            levels.append(admission.level)
    assert admission.settled
    return levels


def test_more_runs_are_let_in_as_long_as_it_pays() -> None:
    assert rates({1: 1000, 2: 1900, 4: 3500, 8: 6000}) == list(LEVELS)
    assert rates({1: 1000, 2: 1000 * GAIN * 0.98}) == [1, 2, 1]
    assert rates({1: 1000, 2: 1900, 4: 1950}) == [1, 2, 4, 2]
    fixed = Admission(3)
    fixed.observe(3, 100, 100.0)
    assert fixed.level == 3 and fixed.settled
    waiting = Admission()
    waiting.observe(1, 10**6, WINDOW_S)
    for _ in range(9):
        waiting.observe(1, 10**6, WINDOW_S)  # a second run has not come yet: says nothing about two
    assert waiting.level == 2 and not waiting.settled


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_steps_learn_and_are_recorded(periodic: TokenStore, engine: Engine) -> None:
    config = config_of("modern", steps=20)
    compiled, rows = alone(config, periodic, engine, execution="compile")
    eager, eager_rows = alone(config, periodic, engine)
    assert compiled.execution["mode"] == "compile" and eager.execution["mode"] == "eager"
    assert compiled.loss == pytest.approx(eager.loss, rel=1e-4)
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in eager_rows], rel=1e-4)


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler on a CPU.*apt-get install g\+\+"):
        choose_execution("compile", Placement(0, 1, torch.device("cpu"), "torch"), None)
    with pytest.raises(InputError, match="compiled steps need the torch engine"):
        choose_execution("compile", Placement(0, 1, torch.device("cpu"), "deepspeed"), None)
    with pytest.raises(InputError, match="unknown execution 'captur'; did you mean 'capture'"):
        choose_execution("captur", Placement(0, 1, torch.device("cpu"), "torch"), None)
