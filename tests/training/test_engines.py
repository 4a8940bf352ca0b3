"""Engines decide how, never what: equal losses, bit for bit where the arithmetic is the same.

One process group per number of ranks trains everything that is compared, so each test here holds many checks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from algoprog.config import InputError
from algoprog.training.checkpoint import Checkpoints
from algoprog.training.engines import Engine, deepspeed_engine, open_engine

sys.path.insert(0, str(Path(__file__).parent))
import engine_probe as probe  # noqa: E402

CLOSE = 1e-5
"""Relative; measured: 1e-6 after 24 steps, for sums in another order and for DeepSpeed's clip."""

Results = dict[str, dict[str, Any]]


def arch_of(engine: str) -> str:
    """The architecture that the probe stops half way under this engine."""
    return "lstm" if engine in ("torch", "zero0", "zero2") else "modern"


def launch(folder: Path, ranks: int, engines: list[str]) -> Results:
    """What the probe finds with so many ranks; its checkpoints stay in ``folder``."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *launcher, str(Path(probe.__file__)), str(folder), *engines]
    # Any attempt to compile an op at run time must fail loudly.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CXX": "false", "CC": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=550)
    assert done.returncode == 0, done.stderr[-3000:]
    results: Results = json.loads((folder / f"world-{ranks}.json").read_text())
    return results


def start(folder: Path, engine: Engine) -> Results:
    """Half a run of one rank for the probe to continue, and the whole runs for comparison."""
    for arch in ("modern", "lstm"):
        probe.stop_half_way(probe.config(arch), engine, folder / "start" / arch)
    return {arch: probe.run(probe.config(arch), engine) for arch in probe.ARCHS}


def curve(result: dict[str, Any]) -> list[float]:
    assert len(result["losses"]) == probe.STEPS
    return [*result["losses"], result["final"]]


def check_whole_engines(found: Results, ranks: int) -> None:
    """``torch`` against ZeRO 0: the same run, in pieces, with recomputation, in bf16."""
    same = [key for key in found if " torch" in key and "after" not in key]
    assert len(same) == 11
    for key in same:
        ours, theirs = found[key], found[key.replace(" torch", " zero0")]
        assert ours["record"]["deterministic_across_engines"] is (ranks <= 2), key
        if ranks <= 2:
            assert {**ours, "record": None} == {**theirs, "record": None}, key
        elif "too fast" not in key:
            assert curve(ours) == pytest.approx(curve(theirs), rel=CLOSE), key
    for engine in ("torch", "zero0"):
        for arch in ("modern", "lstm"):
            base = found[f"{arch} {engine}"]
            again, pieces, bf16 = (found[f"{arch} {engine} {how}"] for how in ("again", "pieces", "bf16"))
            assert {**again, "record": None} == {**base, "record": None}, "recomputed blocks keep every bit"
            assert pieces["micro_batches"] == probe.BATCH // ranks and base["micro_batches"] == 1
            assert pieces["losses"] != base["losses"], "the order of a sum has changed"
            assert curve(pieces) == pytest.approx(curve(base), rel=CLOSE)
            assert pieces["norms"] == pytest.approx(base["norms"], rel=CLOSE)
            assert curve(bf16) != pytest.approx(curve(base), rel=CLOSE), "bf16 computes in bf16"
            assert bf16["losses"][:8] == pytest.approx(base["losses"][:8], rel=0.01)


def check_partitioned(found: Results, engines: list[str]) -> None:
    """ZeRO 1 to 3 against whole gradients: the clip is DeepSpeed's, so close, and marked."""
    assert max(found["modern torch"]["norms"]) > 1.0, "some gradient must need the clip"
    for engine in engines:
        for key, base in ((f"modern {engine}", "modern torch"), (f"lstm {engine} pieces again", "lstm torch")):
            assert found[key]["record"]["deterministic_across_engines"] is False
            assert found[key]["record"]["deepspeed"]["zero_stage"] == int(engine[-1])
            assert curve(found[key]) == pytest.approx(curve(found[base]), rel=CLOSE), key
            assert found[key]["norms"] == pytest.approx(found[base]["norms"], rel=CLOSE), key


def check_used(found: Results, engines: list[str]) -> None:
    """Where ZeRO has cut weights and state up, a program that served other runs gives a new one's run, bit for bit."""
    for engine in engines:
        for key in (f"modern {engine}", f"lstm {engine} pieces again"):
            again = found[f"{key} used"]
            assert again["warm"] is True
            assert all(again[part] == found[key][part] for part in ("losses", "norms", "final")), key


def check_divergence(found: Results) -> None:
    """No engine trains through a number that is not finite."""
    for key in (key for key in found if "too fast" in key):
        assert found[key]["state"] == "diverged" and found[key]["final"] is None, key
        assert f"at step 2 of {probe.STEPS}" in found[key]["message"], key


def check_moves(found: Results, whole: Results, folder: Path, ranks: int, engine: Engine) -> None:
    """A run goes on under another engine or another number of ranks from where it stopped."""
    moves = [key for key in found if "from one rank" in key]
    assert moves
    for key in moves:
        arch, name = key.split()[:2]
        assert curve(found[key]) == pytest.approx(curve(whole[arch]), rel=CLOSE), f"{key} to {ranks}"
        checkpoints = Checkpoints(folder / f"stopped-{ranks}" / name, "probe")
        back = probe.run(probe.config(arch), engine, checkpoints=checkpoints)
        assert curve(back) == pytest.approx(curve(whole[arch]), rel=CLOSE), (
            f"{name} on {ranks} ranks, then torch on one"
        )
    for first, second in (("torch", "zero0"), ("zero0", "torch")):
        moved, stayed = found[f"lstm {second} after {first}"], found["lstm torch"]
        if ranks <= 2:
            assert {**moved, "record": None} == {**stayed, "record": None}, f"{first} to {second}, bit for bit"
        else:
            assert curve(moved) == pytest.approx(curve(stayed), rel=CLOSE)


def check_all(folder: Path, ranks: int, engines: list[str], engine: Engine) -> Results:
    whole = start(folder, engine)
    found = launch(folder, ranks, engines)
    check_whole_engines(found, ranks)
    check_partitioned(found, [name for name in engines if name != "zero0"])
    check_used(found, [name for name in engines if name != "zero0"])
    check_divergence(found)
    check_moves(found, whole, folder, ranks, engine)
    for arch in probe.ARCHS:
        if ranks == 1:
            assert found[f"{arch} torch"] == whole[arch]
        else:
            assert curve(found[f"{arch} torch"]) == pytest.approx(curve(whole[arch]), rel=CLOSE), arch
    return found


def test_one_rank(tmp_path: Path, engine: Engine) -> None:
    check_all(tmp_path, 1, ["zero0"], engine)


def test_two_ranks(tmp_path: Path, engine: Engine) -> None:
    check_all(tmp_path, 2, ["zero0", "zero3"], engine)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_all_stages_on_one_two_and_four_ranks(ranks: int, tmp_path: Path, engine: Engine) -> None:
    check_all(tmp_path, ranks, ["zero0", "zero1", "zero2", "zero3"], engine)


def test_unknown_missing_and_old_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown engine 'deepsped'; did you mean 'deepspeed'"):
        open_engine("deepsped")
    with pytest.raises(InputError, match="--deepspeed: settings for DeepSpeed, but the engine is torch; got 'zero1'"):
        open_engine("torch", "zero1")
    for version in ("0.18.8", "0.9.10", "0.18"):
        with pytest.raises(InputError, match=f"too old; got '{version}'; expected at least 0.18.9"):
            deepspeed_engine.check_version(version)
    for version in ("0.18.9", "0.18.10+cpu", "0.19.8", "1.0"):
        deepspeed_engine.check_version(version)
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(InputError, match=r'pip install "algoprog\[deepspeed\]"'):
        deepspeed_engine.DeepSpeedEngine()
