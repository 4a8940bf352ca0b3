"""`algoprog bench kernels` on a CPU: every row verified, ratios in place of seconds, and no speed for a wrong result."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import algoprog
from algoprog.bench import kernels as bench
from algoprog.cli import app

ROOT = Path(algoprog.__file__).resolve().parent.parent
sys.path.append(str(ROOT / "benchmarks"))
import operation_variants  # noqa: E402
import operations  # noqa: E402
from bench import Bench  # noqa: E402


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes minutes")
def test_command_measures_the_reference_against_eager(tmp_path: Path) -> None:
    found = bench.measure(tmp_path, 5.0, "adamw")
    assert found["device"] == "cpu" and found["finished"]
    assert [row["key"]["variant"] for row in found["rows"]] == ["eager", "torch fused", "reference"]
    for row in found["rows"]:
        assert row["status"] == "measured" and row["accuracy"]["verified"]
        assert row["time_over_eager"] > 0 and row["iqr_over_median"] >= 0
        assert "median_s" not in row and row["versions"]["torch"] == torch.__version__
    assert found["rows"][0]["time_over_eager"] == 1.0
    written = (tmp_path / "operations-cpu.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in written] == found["rows"]


@pytest.mark.parametrize("op", operation_variants.PROBLEMS)
@pytest.mark.parametrize("both", [False, True])
def test_reference_and_eager_are_the_same_operation(op: str, both: bool) -> None:
    made = operations.prepare(Bench("cpu", tiny=True), op, "reference", 48, 16, "bf16", both)
    assert made.accuracy.verified, made.accuracy.complaint()


def test_a_wrong_way_gets_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Bench("cpu", tiny=True)
    stock = operation_variants.PROBLEMS["swiglu"]

    def wrong(*arguments: Any) -> Any:
        made = stock(*arguments)
        ways = {**made.ways, "reference": lambda *_: lambda packed: packed.chunk(2, dim=-1)[0] * 1.5}
        return operation_variants.Problem(made.inputs, ways, made.work)

    monkeypatch.setitem(operation_variants.PROBLEMS, "swiglu", wrong)
    case = operations.operation_case("swiglu", "reference", 16, 8, "fp32", True, "x")
    from bench import row_fields

    fields = row_fields(case.measure(device), device.ceilings)
    assert fields["status"] == "inaccurate" and fields["median_s"] is None and fields["speed"] is None
    assert "above" in fields["reason"]


def test_seconds_never_leave_a_cpu_and_ratios_need_both() -> None:
    common = dict.fromkeys(("script", "source", "commit", "device", "versions", "status", "reason", "accuracy"))
    rows = [
        {**common, "key": {"op": "a", "variant": "eager"}, "median_s": 2.0, "iqr_s": 1.0},
        {**common, "key": {"op": "a", "variant": "reference"}, "median_s": 3.0, "iqr_s": 0.3},
        {**common, "key": {"op": "b", "variant": "reference"}, "median_s": 3.0, "iqr_s": 0.3},
        {**common, "key": {"op": "a", "variant": "peer"}, "median_s": None, "iqr_s": None},
    ]
    assert [row["time_over_eager"] for row in bench.relative(rows)] == [1.0, 1.5, None, None]
    assert not any("median_s" in row for row in bench.relative(rows))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--part", "nonsense"], "expected plain, compiled, adamw"),
        (["--minutes", "0"], "expected above 0, at most 60"),
        ([], "source checkout"),
    ],
)
def test_bad_input_is_one_line(options: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not options:
        monkeypatch.setattr(bench, "SCRIPT", Path("/nowhere/operations.py"))
    asked = CliRunner().invoke(app, ["bench", "kernels", *options])
    assert asked.exit_code == 2 and message in asked.stderr and asked.stderr.count("\n") == 1
