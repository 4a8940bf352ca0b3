"""A checkpoint is whole or absent, and a damaged one is never loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from algoprog.training import checkpoint as module
from algoprog.training.checkpoint import KEEP, Checkpoints


def trained(steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    for _ in range(steps):
        model(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


CARRIED = [(torch.full((1, 2, 3), 0.5), torch.full((1, 2, 3), -0.5))]


def test_round_trip_continues_exactly(tmp_path: Path) -> None:
    model, optimizer = trained(3)
    Checkpoints(tmp_path, "abc").save(3, model, optimizer, CARRIED, [{"step": 3, "loss": 1.5}])
    other, other_optimizer = trained(0)
    restored = Checkpoints(tmp_path, "abc").restore(other, other_optimizer)
    assert restored is not None and restored.step == 3 and torch.equal(restored.carried[0][1], CARRIED[0][1])
    assert restored.rows == [{"step": 3, "loss": 1.5}]
    for m, o in ((model, optimizer), (other, other_optimizer)):
        m(torch.ones(2, 4)).square().sum().backward()
        o.step()
    assert torch.equal(model.weight, other.weight)


def test_nothing_to_restore(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", "abc").restore(*trained(0)) is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "abc")
    for step in range(1, 6):
        checkpoints.save(step, *trained(1), None)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-00000004", "step-00000005"] and KEEP == 2


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "carried.safetensors", "state.json"])
def test_a_flipped_bit_is_found_and_the_older_one_loads(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path, "abc")
    checkpoints.save(1, *trained(1), CARRIED)
    checkpoints.save(2, *trained(2), CARRIED)
    path = tmp_path / "step-00000002" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    restored = checkpoints.restore(*trained(0))
    assert restored is not None and restored.step == 1
    assert (tmp_path / "corrupt-step-00000002").exists()
    assert name in capsys.readouterr().err


def test_missing_manifest_or_other_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Checkpoints(tmp_path, "abc").save(1, *trained(1), None)
    assert Checkpoints(tmp_path, "other").restore(*trained(0)) is None
    assert "belongs to run abc, expected other" in capsys.readouterr().err
    Checkpoints(tmp_path, "abc").save(2, *trained(1), None)
    (tmp_path / "step-00000002" / "MANIFEST.json").unlink()
    assert Checkpoints(tmp_path, "abc").restore(*trained(0)) is None


def test_a_failed_write_keeps_the_previous_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path, "abc")
    checkpoints.save(1, *trained(1), None)

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_durably", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(2, *trained(2), None)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_a_crash_before_the_rename_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "step-00000009.partial-1").mkdir()
    (tmp_path / "step-00000009.partial-1" / "state.json").write_text(json.dumps({"step": 9, "digest": "abc"}))
    assert Checkpoints(tmp_path, "abc").restore(*trained(0)) is None
    assert not list(tmp_path.iterdir())
