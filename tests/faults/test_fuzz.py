"""Fuzzed sweep files, tables and stores through the commands: a part of what `benchmarks/faults/fuzz.py` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from benchmarks.faults import fuzz


def test_a_few_hundred_cases(tmp_path: Path) -> None:
    found = fuzz.run(300, tmp_path, start=11)
    assert not found.wrong, found.wrong
    assert sum(found.codes.values()) >= 500 and found.codes["fit: 2"] and found.codes["status: 0"]
    assert found.codes["status --verify: 1"], "a damaged store is a finding"


@pytest.mark.slow
def test_ten_thousand_cases(tmp_path: Path) -> None:
    found = fuzz.run(10_000, tmp_path, start=12)
    assert not found.wrong, found.wrong


def test_good_cases_pass(tmp_path: Path) -> None:
    """Else the fuzzer would only ever see bad input refused."""
    (tmp_path / "runs.csv").write_bytes(fuzz._table(fuzz._good_rows(), fuzz.HEADER))
    (tmp_path / "sweep.yaml").write_bytes(fuzz._yaml({**fuzz.GOOD_SWEEP, "data": {"tokenizer": "bpe-300"}}))
    with fuzz.quick():
        assert fuzz.invoke("fit", str(tmp_path / "runs.csv"), "--draws", "100", "--json") == fuzz.Verdict(0, None)
        assert fuzz.invoke("plan", str(tmp_path / "sweep.yaml"), "--precision", "fp32") == fuzz.Verdict(0, None)


def test_the_fuzzer_sees_tracebacks_hangs_and_odd_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("oops")

    def endless(*_: Any) -> None:
        while True:
            pass

    with mock.patch("algoprog.sweep.commands.status", broken):
        assert "traceback: KeyError" in str(fuzz.invoke("status", str(tmp_path)).wrong)
    monkeypatch.setattr(fuzz, "LIMIT_S", 1)
    with mock.patch("algoprog.sweep.commands.status", endless):
        assert fuzz.invoke("status", str(tmp_path)).wrong == "hang"
    with mock.patch("algoprog.sweep.commands.status", lambda folder: (_ for _ in ()).throw(SystemExit(3))):
        assert fuzz.invoke("status", str(tmp_path)).wrong == "exit code 3"
