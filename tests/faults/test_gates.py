"""Three gates: the same run twice gives the same bits, a changed program the bits of the old one, a restarted run its own.

The third one, restart replay, is held in `test_resume_exact.py` for runs in memory and here for the rows of a run's folder.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest
import torch

from algoprog.training import run as module
from algoprog.training.determinism import determinism
from algoprog.training.engines import open_engine
from algoprog.training.replay import ReplayMismatch
from benchmarks.faults import golden_losses
from benchmarks.faults.small_runs import ARCHES, follow, small, tokens


@pytest.mark.parametrize("arch", ARCHES)
def test_repeatability(arch: str) -> None:
    config = small(arch, 12)
    first = follow(config, tokens(), open_engine("torch"))
    with determinism(True):
        second = follow(config, tokens(), open_engine("torch"))
    assert second.same_as(first) and second.outcome.deterministic and not first.outcome.deterministic
    assert not torch.are_deterministic_algorithms_enabled()


def test_baseline_equivalence() -> None:
    for arch in ARCHES:
        golden = golden_losses.stored(arch)
        for key, here in (("torch", torch.__version__), ("machine", platform.machine())):
            if golden[key] != here:
                pytest.skip(f"golden losses are of {key} {golden[key]}, this is {here}")
    found = golden_losses.compute()
    for arch in ARCHES:
        assert found[arch] == golden_losses.stored(arch), f"{arch}: see tests/golden/README.md"


def test_restart_replay_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are reported again are compared with those in the folder; one changed digit is an error."""
    monkeypatch.setattr(module, "prepare", lambda config, progress=True: tokens())

    def train(deterministic: bool | None = None) -> None:
        module.train_in_folder(
            small("retro", 20), "torch", tmp_path / "run", lambda row: None, deterministic=deterministic
        )

    train()
    path = tmp_path / "run" / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 20 and rows[0]["step"] == 1
    (tmp_path / "run" / "outcome.json").unlink()
    train()  # all twenty rows again
    (tmp_path / "run" / "outcome.json").unlink()
    rows[9]["loss"] += 1e-15
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ReplayMismatch, match="step 10, repeated after a restart: loss"):
        train()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train(deterministic=False)  # another environment: a warning
    assert json.loads((tmp_path / "run" / "outcome.json").read_text())["deterministic"] is False
