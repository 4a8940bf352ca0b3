"""Writing beside the loop: one at a time, errors come out, the last save waits. Metric rows and claims stand the same."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from algoprog.config import InputError
from algoprog.training import saver as module
from algoprog.training.checkpoint import Checkpoints
from algoprog.training.claim import claimed
from algoprog.training.engines import Engine
from algoprog.training.loop import Run
from algoprog.training.metrics_file import MetricsFile, read_metrics
from algoprog.training.replay import Replay, ReplayMismatch
from algoprog.training.saver import MOST_FAILURES, Saver
from algoprog.training.state import RunState
from algoprog.training.warm import Programs
from benchmarks.faults.checkpoint_states import same_state, small_state
from benchmarks.faults.small_runs import small, tokens


class Gate(Checkpoints):
    """Saves only when it is let; ``error`` is raised instead, if there is one."""

    def __init__(self, folder: Path, error: BaseException | None = None) -> None:
        super().__init__(folder, "x")
        self.open, self.started, self.error, self.tries = threading.Event(), threading.Event(), error, 0

    def save(self, state: RunState, prune: bool = True) -> Path:
        self.tries += 1
        self.started.set()
        assert self.open.wait(30)
        if self.error is not None:
            raise self.error
        return super().save(state, prune)


def test_the_loop_goes_on_while_a_state_is_written_and_changes_nothing_in_it(tmp_path: Path) -> None:
    checkpoints = Gate(tmp_path)
    saver = Saver(checkpoints, every_s=0.0)
    state = small_state(1)
    assert saver.due()
    saver.save(state)
    assert checkpoints.started.wait(10) and not saver.due()  # one at a time
    for tensor in state.model.values():
        tensor.zero_()  # the next steps
    checkpoints.open.set()
    saver.wait()
    restored = checkpoints.restore()
    assert restored is not None and same_state(restored, small_state(1)) and saver.due()


def test_a_write_that_is_under_way_is_the_last(tmp_path: Path) -> None:
    checkpoints = Gate(tmp_path)
    saver = Saver(checkpoints)
    saver.save(small_state(1))
    threading.Timer(0.2, checkpoints.open.set).start()
    saver.save_last(small_state(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    saver.save_last(small_state(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000003"]


def test_a_full_disk_is_reported_and_tried_again_and_then_ends_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Checkpoints(tmp_path, "x").save(small_state(1))
    checkpoints = Gate(tmp_path, OSError(errno.ENOSPC, "No space left on device"))
    checkpoints.open.set()
    saver = Saver(checkpoints, every_s=0.0)
    for step in range(2, 2 + MOST_FAILURES):
        saver.check()
        saver.save(small_state(step))
        saver.wait()
    said = capsys.readouterr().err
    assert said.count("it will be tried again") == MOST_FAILURES - 1
    assert saver.failed()
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\).*step 1 is kept; make room"):
        saver.check()


def test_a_disk_with_room_again_is_forgiven(tmp_path: Path) -> None:
    checkpoints = Gate(tmp_path, OSError(errno.ENOSPC, "No space left on device"))
    checkpoints.open.set()
    saver = Saver(checkpoints)
    for _ in range(3):
        for error in (OSError(errno.ENOSPC, "full"), OSError(errno.EROFS, "read-only"), None):
            checkpoints.error = error
            saver.save(small_state(1))
            saver.wait()
    assert not saver.failed()


def test_the_last_save_tries_several_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    checkpoints = Gate(tmp_path, OSError(errno.EIO, "I/O error"))
    checkpoints.open.set()
    with pytest.raises(InputError, match="there is no earlier one"):
        Saver(checkpoints).save_last(small_state(1))
    assert checkpoints.tries == MOST_FAILURES


def test_an_error_of_another_kind_comes_out_as_it_is(tmp_path: Path) -> None:
    checkpoints = Gate(tmp_path, ValueError("a bug"))
    checkpoints.open.set()
    saver = Saver(checkpoints)
    saver.save(small_state(1))
    saver.wait()
    with pytest.raises(ValueError, match="a bug"):
        saver.check()


def test_a_run_whose_states_cannot_be_saved_ends_with_one_clear_error(tmp_path: Path, engine: Engine) -> None:
    checkpoints = Gate(tmp_path, OSError(errno.ENOSPC, "No space left on device"))
    checkpoints.open.set()
    run = Run(small("retro", 200), Programs(tokens(), engine), checkpoints=checkpoints, checkpoint_every_s=0.0)
    with pytest.raises(InputError, match="the state of the run cannot be written"):
        run.complete()
    assert checkpoints.tries == MOST_FAILURES and run.step.done < 200


def test_a_folder_that_vanishes_is_made_again(tmp_path: Path, engine: Engine) -> None:
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints", "x")
    metrics = MetricsFile(tmp_path / "run" / "metrics.jsonl")

    def row(values: dict[str, object]) -> None:
        if values["step"] == 10:
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
        metrics.append(values)

    run = Run(
        small("retro", 20), Programs(tokens(), engine), checkpoints=checkpoints, checkpoint_every_s=0.0, on_metrics=row
    )
    assert run.complete().state == "done"
    assert checkpoints.restore() is not None
    assert [values["step"] for values in read_metrics(tmp_path / "run" / "metrics.jsonl")] == list(range(1, 21))


def test_rows_that_did_not_fit_are_written_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    metrics.append({"step": 1})
    code = """
import resource, signal, sys
from pathlib import Path
from algoprog.training.metrics_file import MetricsFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
metrics = MetricsFile(Path(sys.argv[1]))
metrics.append({"step": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))  # the disk is full in the middle of a row
metrics.append({"step": 2})
metrics.append({"step": 3})
assert Path(sys.argv[1]).stat().st_size == 20
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
metrics.append({"step": 4})
metrics.close()
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr.count("warning") == 1, done.stderr
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3, 4]


def test_a_cut_off_row_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n[2]\nnonsense\n{"step": 2}\n{"step"')
    assert read_metrics(path) == [{"step": 1}, {"step": 2}]
    assert read_metrics(tmp_path / "none") == []


def test_rows_that_never_fit_are_an_error(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "folder" / "metrics.jsonl")
    shutil.rmtree(tmp_path / "folder")
    (tmp_path / "folder").write_text("a file stands there now")
    metrics.append({"step": 1})
    with pytest.raises(InputError, match="metric rows cannot be written"):
        metrics.close()


def test_a_claim_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    with claimed(tmp_path):
        note = json.loads((tmp_path / ".claim").read_text())
        assert note["pid"] == os.getpid()
        with pytest.raises(InputError, match=f"another process works on this run.*process {os.getpid()} on"):
            with claimed(tmp_path):
                raise AssertionError
    with claimed(tmp_path):
        assert True
    with pytest.raises(InputError, match="cannot be written"), claimed(tmp_path / "none"):
        raise AssertionError


def test_a_repeated_row_must_be_the_same() -> None:
    rows = [{"step": 1, "loss": 2.5, "grad_norm": 1.0, "lr": 0.1, "tokens": 64, "flops": 9}]
    strict = Replay(rows, strict=True)
    strict.check({**rows[0], "step": 2, "loss": 1.0})
    strict.check(dict(rows[0]))
    assert strict.compared == 1
    with pytest.raises(ReplayMismatch, match=r"step 1, repeated after a restart: loss 2.5000000000000004, was 2.5"):
        strict.check({**rows[0], "loss": 2.5000000000000004})
    lenient = Replay(rows, strict=False)
    lenient.check({**rows[0], "loss": 2.0})
    assert lenient.different == 1
