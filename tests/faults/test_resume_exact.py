"""A run that is stopped anywhere, any number of times, ends as the undisturbed one does: every row, score and weight."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from algoprog.config import RunConfig
from algoprog.training import program
from algoprog.training.checkpoint import Checkpoints
from algoprog.training.engines import open_engine
from algoprog.training.loop import Run, Stopped
from algoprog.training.state import RunState
from algoprog.training.warm import Programs
from benchmarks.faults.small_runs import ARCHES, Trace, follow, small, stop_at, tokens

STEPS = 210  # intervals of two steps, so that a stop can fall inside one


@cache
def config(arch: str) -> RunConfig:
    return small(arch, STEPS if arch == "modern" else 36, schedule={"name": "cosine"})


@cache
def undisturbed(arch: str) -> Trace:
    return follow(config(arch), tokens(), open_engine("torch"))


@pytest.mark.parametrize("arch", ARCHES)
@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_stopped_anywhere_it_ends_the_same(
    arch: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    last = config(arch).budget.tokens // 64
    stops = sorted(data.draw(st.lists(st.integers(1, last - 1), min_size=1, max_size=3, unique=True)))
    checkpoints = Checkpoints(tmp_path_factory.mktemp("run"), "x")
    stop_at(config(arch), tokens(), open_engine("torch"), checkpoints, stops)
    resumed = follow(config(arch), tokens(), open_engine("torch"), checkpoints)
    assert resumed.same_as(undisturbed(arch)), stops


@pytest.mark.slow
@pytest.mark.parametrize("arch", [*ARCHES, "retro-study-code", "lstm-study-code", "lstm-2", "modern-sgd"])
def test_every_stop_of_every_architecture(arch: str, tmp_path: Path) -> None:
    run = small(arch, 24)
    whole = follow(run, tokens(), open_engine("torch"))
    for stop in range(1, 24):
        checkpoints = Checkpoints(tmp_path / str(stop), "x")
        stop_at(run, tokens(), open_engine("torch"), checkpoints, [stop])
        assert follow(run, tokens(), open_engine("torch"), checkpoints).same_as(whole), stop


@pytest.mark.parametrize(
    "extra",
    [
        {"arch": "lstm", "model": {"dropout": 0.3}},
        {"arch": "modern", "optim": {"name": "sgd", "momentum": 0.9}},
        {"arch": "modern", "optim": {"name": "rmsprop"}, "precision": "bf16"},
    ],
    ids=["dropout", "momentum", "rmsprop in bf16"],
)
def test_random_masks_and_other_optimisers_resume(extra: dict[str, object], tmp_path: Path) -> None:
    run = small(str(extra.pop("arch")), 16, **extra)
    whole = follow(run, tokens(), open_engine("torch"))
    checkpoints = Checkpoints(tmp_path, "x")
    stop_at(run, tokens(), open_engine("torch"), checkpoints, [5, 11])
    assert follow(run, tokens(), open_engine("torch"), checkpoints).same_as(whole)


def test_the_flat_optimiser_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flat(settings_: object, model: torch.nn.Module, operations: object) -> torch.optim.Optimizer:
        from algoprog.kernels import FlatAdamW

        return FlatAdamW(model.parameters(), 0.01, max_norm=1.0)

    monkeypatch.setattr(program, "build_optimizer", flat)
    run = small("modern", 16)
    whole = follow(run, tokens(), open_engine("torch"))
    checkpoints = Checkpoints(tmp_path, "x")
    stop_at(run, tokens(), open_engine("torch"), checkpoints, [3, 9])
    assert follow(run, tokens(), open_engine("torch"), checkpoints).same_as(whole)


def test_a_damaged_newest_checkpoint_costs_steps_and_no_bits(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "x")
    stop_at(config("retro"), tokens(), open_engine("torch"), checkpoints, [7, 19])
    path = tmp_path / "step-00000019" / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    run = Run(config("retro"), Programs(tokens(), open_engine("torch")), checkpoints=checkpoints)
    assert run.first_step == 7
    assert run.complete().loss == undisturbed("retro").outcome.loss


def test_stopped_during_the_evaluation_it_ends_the_same(tmp_path: Path) -> None:
    checkpoints, asked = Checkpoints(tmp_path, "x"), []

    def in_evaluation() -> bool:
        asked.append(True)
        return len(asked) == 36 + 1  # once a step, then before each batch of the evaluation

    run = Run(
        config("retro"), Programs(tokens(), open_engine("torch")), checkpoints=checkpoints, should_stop=in_evaluation
    )
    run.pace.note = lambda steps, seconds: None  # type: ignore[method-assign]
    with pytest.raises(Stopped, match="stopped at step 36 of 36"):
        run.complete()
    assert run.program.model.training
    assert follow(config("retro"), tokens(), open_engine("torch"), checkpoints).same_as(undisturbed("retro"))


def test_a_changed_schedule_or_data_order_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The digest is the first guard; this is the second, against code that changed under the same digest."""
    checkpoints = Checkpoints(tmp_path, "x")
    stop_at(config("retro"), tokens(), open_engine("torch"), checkpoints, [9])
    other = config("retro").model_copy(update={"seed": 1})
    assert Run(other, Programs(tokens(), open_engine("torch")), checkpoints=checkpoints).first_step == 0
    assert "next_windows_sha256" in capsys.readouterr().err
    assert (tmp_path / "corrupt-step-00000009").exists()


@pytest.mark.parametrize("arch", ARCHES)
def test_training_neither_reads_nor_moves_the_global_generator(arch: str) -> None:
    """Why a checkpoint needs no state of a random generator."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    dropout = {"dropout": 0.2} if arch == "lstm" else {}
    first = follow(small(arch, 6, model=dropout), tokens(), open_engine("torch"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert follow(small(arch, 6, model=dropout), tokens(), open_engine("torch")).same_as(first)


def test_what_a_checkpoint_holds(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "x")
    stop_at(config("modern"), tokens(), open_engine("torch"), checkpoints, [7])
    state = checkpoints.restore()
    assert isinstance(state, RunState)
    assert state.step == 7 and len(state.pending) == 1 and [row["step"] for row in state.rows] == [2, 4, 6]
    assert state.position["tokens"] == 7 * 64 and state.position["flops"] == 7 * (state.rows[0]["flops"] // 2)
    assert state.position["epochs"] == pytest.approx(7 * 4 / (20_000 // 17))
    assert state.environment["torch"] == torch.__version__ and state.environment["world"] == 1
    assert set(state.optimizer) == {
        f"{name}/{key}" for name in state.model for key in ("step", "exp_avg", "exp_avg_sq")
    }
