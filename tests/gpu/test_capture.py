"""Steps replayed from CUDA graphs: equal to eager steps bit for bit, without a word from the host, also several at once."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from algoprog.config import BudgetConfig, RunConfig
from algoprog.data.store import TokenStore
from algoprog.recipes import resolve
from algoprog.training import device_data
from algoprog.training.engines import Engine
from algoprog.training.loop import Run, train
from algoprog.training.outcome import Outcome
from algoprog.training.together import Together
from algoprog.training.warm import Programs

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

Rows = list[dict[str, Any]]
ARCHES = ["modern", "retro", "lstm"]


def config_of(arch: str, steps: int = 120, seed: int = 0, precision: str = "bf16", **overrides: Any) -> RunConfig:
    model = {"context": 64, **({"bptt": 32} if arch == "lstm" else {})}
    settings = {"batch": 8, "model": model, "data": {"tokenizer": "bpe-300"}, **overrides}
    config = resolve(arch, 64, BudgetConfig(tokens=steps * 512), lr=0.01, seed=seed, overrides=settings)
    return config.model_copy(update={"precision": precision})


def result(
    config: RunConfig, store: TokenStore, engine: Engine, execution: str, **options: Any
) -> tuple[Outcome, Rows]:
    rows: Rows = []
    outcome = train(config, store, engine, execution=execution, on_metrics=rows.append, **options)
    assert outcome.execution["mode"] == execution
    return dataclasses.replace(outcome, seconds={}), rows


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kernels", ["auto", "reference"])
def test_replayed_steps_equal_eager_ones_bit_for_bit(
    arch: str, precision: str, kernels: str, periodic: TokenStore, engine: Engine
) -> None:
    config = config_of(arch, precision=precision)
    eager = result(config, periodic, engine, "eager", kernels=kernels)
    assert result(config, periodic, engine, "capture", kernels=kernels) == eager


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_other_optimisers_are_replayed_too(name: str, periodic: TokenStore, engine: Engine) -> None:
    config = config_of("modern", optim={"name": name})
    assert result(config, periodic, engine, "capture") == result(config, periodic, engine, "eager")


def test_tokens_of_one_interval_serve_as_well_as_all(
    periodic: TokenStore, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("modern")
    whole = result(config, periodic, engine, "capture")
    monkeypatch.setattr(device_data, "residence", lambda size, device: "interval")
    assert result(config, periodic, engine, "capture") == whole


@pytest.mark.parametrize("arch", ARCHES)
def test_a_recorded_program_serves_the_next_run(arch: str, periodic: TokenStore, engine: Engine) -> None:
    programs = Programs(periodic, engine, execution="capture")
    Run(config_of(arch, steps=30, seed=3), programs).complete()
    rows: Rows = []
    run = Run(config_of(arch), programs, on_metrics=rows.append)
    outcome = dataclasses.replace(run.complete(), seconds={})
    assert run.warm and (outcome, rows) == result(config_of(arch), periodic, engine, "capture")


@pytest.mark.parametrize("execution", ["eager", "capture"])
@pytest.mark.parametrize("arch", ARCHES)
def test_the_host_never_waits_between_drains(arch: str, execution: str, periodic: TokenStore, engine: Engine) -> None:
    run = Run(config_of(arch, steps=5000), Programs(periodic, engine, execution=execution))
    for _ in range(2):  # kernels are loaded and memory is there
        run.launch()
        run.collect()
    torch.cuda.set_sync_debug_mode("error")
    try:
        run.launch()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    run.collect()
    assert run.trouble is None


@pytest.mark.parametrize("at_once", [2, 4, 8])
def test_recorded_runs_on_several_streams_equal_runs_alone(at_once: int, periodic: TokenStore, engine: Engine) -> None:
    configs = {f"{arch} {seed}": config_of(arch, seed=seed) for seed in range(3) for arch in ARCHES}
    rows: dict[str, Rows] = {name: [] for name in configs}
    programs, together, waiting, outcomes = (
        Programs(periodic, engine, execution="capture"),
        Together(),
        list(configs),
        {},
    )
    streams = set()
    while waiting or len(together):
        while waiting and len(together) < at_once:
            name = waiting.pop(0)
            run = Run(configs[name], programs, on_metrics=rows[name].append)
            streams.add(run.program.stream)
            assert not together.add(name, lambda run=run: run)  # type: ignore[misc]
        for end in together.turn():
            assert end.outcome is not None, end.error
            outcomes[end.name] = dataclasses.replace(end.outcome, seconds={})
    assert len(streams) >= at_once
    for name, config in configs.items():
        assert (outcomes[name], rows[name]) == result(config, periodic, engine, "capture")
