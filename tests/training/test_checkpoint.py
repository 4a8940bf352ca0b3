"""A checkpoint is whole or absent, and a damaged one is never loaded."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from algoprog.config import BudgetConfig, OptimConfig
from algoprog.kernels import FlatAdamW
from algoprog.recipes import resolve
from algoprog.training import checkpoint as module
from algoprog.training import manifest
from algoprog.training.checkpoint import KEEP, Checkpoints
from algoprog.training.optim import build_optimizer
from algoprog.training.optimizer_state import load_named_state, named_state
from algoprog.training.state import RunState, check_position, check_weights
from algoprog.training.tensor_file import NAMES, tensor_chunks

CARRIED = [(torch.full((1, 2, 3), 0.5), torch.full((1, 2, 3), -0.5))]


def trained(steps: int, name: str = "adamw") -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    if name == "flat":
        optimizer: torch.optim.Optimizer = FlatAdamW(model.parameters(), lr=0.1)
    else:
        momentum = {"momentum": 0.9} if name == "sgd" else {}
        optimizer = build_optimizer(OptimConfig.model_validate({"name": name, "lr": 0.1, **momentum}), model)
    for _ in range(steps):
        model(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def state(step: int = 1, optimizer: str = "adamw") -> RunState:
    model, optimizer_ = trained(step, optimizer)
    rows = [{"step": s, "loss": 1.5 / s} for s in range(1, step + 1)]
    pending = torch.tensor([[0.1 * step, 1 / 3]], dtype=torch.float64)
    return RunState(step, dict(model.state_dict()), named_state(model, optimizer_), CARRIED, pending, rows, skipped=1,
                    last_loss=0.3, position={"tokens": 64 * step}, environment={"threads": 1}).to_host()  # fmt: skip


@pytest.mark.parametrize("writer", ["adamw", "flat"])
@pytest.mark.parametrize("reader", ["adamw", "flat"])
def test_round_trip_continues_exactly_whoever_wrote_it(tmp_path: Path, writer: str, reader: str) -> None:
    Checkpoints(tmp_path, "abc").save(state(3, writer))
    restored = Checkpoints(tmp_path, "abc").restore()
    assert restored is not None and dataclasses.asdict(restored).keys() == dataclasses.asdict(state(3)).keys()
    for field in ("step", "rows", "skipped", "last_loss", "position", "environment"):
        assert getattr(restored, field) == getattr(state(3), field)
    assert torch.equal(restored.carried[0][1], CARRIED[0][1]) and torch.equal(restored.pending, state(3).pending)
    (other, other_optimizer), (model, optimizer) = trained(0, reader), trained(3, reader)
    other.load_state_dict(restored.model)
    load_named_state(other, other_optimizer, restored.optimizer)
    for m, o in ((model, optimizer), (other, other_optimizer)):
        m(torch.ones(2, 4)).square().sum().backward()
        o.step()
    # Where the flat optimiser takes over from the plain one, their arithmetic differs in the last bits.
    torch.testing.assert_close(model.weight, other.weight, rtol=0 if writer == reader else 1e-6, atol=0)


@pytest.mark.parametrize("name", ["adam", "sgd", "rmsprop"])
def test_every_optimiser_round_trips(tmp_path: Path, name: str) -> None:
    Checkpoints(tmp_path, "abc").save(state(2, name))
    restored = Checkpoints(tmp_path, "abc").restore()
    other, other_optimizer = trained(0, name)
    load_named_state(other, other_optimizer, restored.optimizer)
    expected = state(2, name).optimizer
    found = named_state(other, other_optimizer)
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8),
        st.tuples(st.sampled_from(sorted(NAMES, key=str)), st.lists(st.integers(0, 4), max_size=3)),
        max_size=5,
    )
)
def test_tensor_files_are_those_of_the_library(tensors: dict[str, tuple[torch.dtype, list[int]]]) -> None:
    tensors.pop("__metadata__", None)
    given_ = {name: torch.randint(0, 2, shape).to(dtype) for name, (dtype, shape) in tensors.items()}
    found = safetensors.torch.load(b"".join(bytes(chunk) for chunk in tensor_chunks(given_)))
    assert found.keys() == given_.keys()
    assert all(found[n].dtype == t.dtype and torch.equal(found[n], t) for n, t in given_.items())


def test_tensor_files_refuse_other_types() -> None:
    with pytest.raises(ValueError, match="tensor x: expected a plain type"):
        list(tensor_chunks({"x": torch.zeros(1, dtype=torch.complex64)}))


def test_nothing_to_restore(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", "abc").restore() is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "abc")
    for step in range(1, 6):
        checkpoints.save(state(step))
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-00000004", "step-00000005"] and KEEP == 2
    assert checkpoints.latest_step() == 5


def test_the_only_one_that_verifies_is_never_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes bytes and keeps others: the third save finds that nothing newer than the first can be read."""
    checkpoints = Checkpoints(tmp_path, "abc")
    checkpoints.save(state(1))
    real = os.write

    def rots(handle: int, data: bytes) -> int:
        return real(handle, bytes(byte ^ 1 for byte in bytes(data)))

    monkeypatch.setattr(os, "write", rots)
    for step in (2, 3, 4):
        checkpoints.save(state(step))
    monkeypatch.undo()
    assert (tmp_path / "step-00000001").exists()
    restored = checkpoints.restore()
    assert restored is not None and restored.step == 1
    assert len(list(tmp_path.glob("corrupt-*"))) == 3


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def manifest_of_format_1(folder: Path) -> None:
    files = {"state.json": {"bytes": 1, "sha256": "0"}}
    (folder / "MANIFEST.json").write_text(json.dumps(files))


def other_format(folder: Path) -> None:
    content = {"format": 99, "files": {}}
    spelt = manifest._spell({**content, "sha256": manifest.hashlib.sha256(manifest._spell(content)).hexdigest()})
    (folder / "MANIFEST.json").write_bytes(spelt)
    for path in {*folder.iterdir()} - {folder / "MANIFEST.json"}:
        path.unlink()


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing manifest": (lambda f: (f / "MANIFEST.json").unlink(), "MANIFEST.json: missing"),
    "empty manifest": (lambda f: (f / "MANIFEST.json").write_bytes(b""), "its own sha256 does not match"),
    "old manifest": (manifest_of_format_1, "its own sha256 does not match"),
    "other format": (other_format, "format 99, expected 2"),
    "respelt manifest": (
        lambda f: (f / "MANIFEST.json").write_text((f / "MANIFEST.json").read_text() + " "),
        "its own sha256 does not match",
    ),
    "missing file": (lambda f: (f / "state.json").unlink(), r"files missing: \['state.json'\]"),
    "extra file": (lambda f: (f / "more").write_text(""), r"files too many: \['more'\]"),
    "renamed file": (lambda f: (f / "state.json").rename(f / "stale.json"), r"files missing: \['state.json'\]"),
    "truncated file": (truncated, "bytes, expected"),
    "empty file": (
        lambda f: (f / "optimizer.safetensors").write_bytes(b""),
        "optimizer.safetensors: 0 bytes, expected",
    ),
    "other name": (lambda f: f.rename(f.with_name("step-00000007")), "holds step 2, which its name does not say"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_and_set_aside_and_the_older_one_loads(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path, "abc")
    checkpoints.save(state(1))
    checkpoints.save(state(2))
    do, message = DAMAGE[damage]
    do(tmp_path / "step-00000002")
    restored = checkpoints.restore()
    assert restored is not None and restored.step == 1
    assert len(list(tmp_path.glob("corrupt-step-*"))) == 1
    said = capsys.readouterr().err
    assert "set aside as corrupt-step-" in said
    assert re.search(message, said), said


def test_what_is_set_aside_is_never_overwritten_or_removed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "abc")
    for _ in range(3):
        checkpoints.save(state(1))
        (tmp_path / "step-00000001" / "state.json").write_bytes(b"{}")
        assert checkpoints.restore() is None
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "corrupt-step-00000001", "corrupt-step-00000001.1", "corrupt-step-00000001.2",
    ]  # fmt: skip
    checkpoints.discard()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_step_that_is_there_is_kept_if_it_verifies(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "abc")
    folder = checkpoints.save(state(1))
    before = (folder / "state.json").stat().st_ino
    checkpoints.save(state(1))
    assert (folder / "state.json").stat().st_ino == before
    (folder / "state.json").write_bytes(b"{}")
    checkpoints.save(state(1))
    assert checkpoints.restore() is not None and (tmp_path / "corrupt-step-00000001").exists()


def test_states_of_other_runs_models_and_data_orders_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def saved() -> None:
        Checkpoints(tmp_path, "abc").save(state(1))

    saved()
    assert Checkpoints(tmp_path, "other").restore() is None
    assert "belongs to run abc, expected other" in capsys.readouterr().err
    saved()
    other = nn.Linear(4, 2).state_dict()
    assert Checkpoints(tmp_path, "abc").restore(lambda found: check_weights(found, other)) is None
    assert "weight bias: ((3,), torch.float32), expected ((2,), torch.float32)" in capsys.readouterr().err
    saved()
    assert Checkpoints(tmp_path, "abc").restore(lambda found: check_position(found, {"tokens": 65})) is None
    assert "position tokens: 64, expected 65" in capsys.readouterr().err


def test_a_failed_write_keeps_the_previous_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path, "abc")
    checkpoints.save(state(1))

    def full(path: Path, chunks: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_durably", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(state(2))
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_a_crash_before_the_rename_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "step-00000009.partial-1").mkdir()
    (tmp_path / "step-00000009.partial-1" / "state.json").write_text(json.dumps({"step": 9, "digest": "abc"}))
    assert Checkpoints(tmp_path, "abc").restore() is None
    assert not list(tmp_path.iterdir())


def test_names_given_before_the_fault_policy_stay() -> None:
    config = resolve("modern", 16, BudgetConfig(tokens=1000), lr=0.01)
    assert config.digest("x") == "b118d1de8622b718"  # as it was before `nonfinite` and `max_skips` existed
    skipping = config.model_copy(update={"nonfinite": "skip"})
    more = skipping.model_copy(update={"max_skips": 11})
    assert len({config.digest("x"), skipping.digest("x"), more.digest("x")}) == 3
