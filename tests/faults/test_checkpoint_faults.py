"""Bits that flip and processes that die while they save; the experiments are those behind the published figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.faults.bit_flips import undetected_flips
from benchmarks.faults.kill_points import WAYS, kill_everywhere


def test_flipped_bits_are_found_in_every_file(tmp_path: Path) -> None:
    counts = undetected_flips(tmp_path, 150)
    assert counts.pop("missed") == 0
    assert set(counts) == {
        "MANIFEST.json", "carried.safetensors", "model.safetensors", "optimizer.safetensors", "pending.safetensors",
        "state.json",
    }  # fmt: skip


@pytest.mark.slow
def test_a_thousand_flipped_bits_are_found(tmp_path: Path) -> None:
    assert undetected_flips(tmp_path, 1000, seed=1)["missed"] == 0


def test_a_killed_save_leaves_the_old_or_the_new_checkpoint(tmp_path: Path) -> None:
    cases, failures = kill_everywhere(tmp_path, first=1, every=13)
    assert cases > 30 and not failures


@pytest.mark.slow
def test_a_save_killed_at_every_file_operation(tmp_path: Path) -> None:
    cases, failures = kill_everywhere(tmp_path)
    assert cases > 400 and not failures and len(WAYS) == 4
