"""The checkup answers whatever is missing or broken, and says it in the same words to people and to programs."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from algoprog import doctor
from algoprog.cli import app
from algoprog.kernels.dispatch import OPERATIONS

PARTS = ["python", "cpu", "torch", "gpu", "cuda toolkit", "triton", "flash-attn", "deepspeed", "fused kernels"]


def parts() -> dict[str, doctor.Part]:
    return {part.name: part for part in doctor.examine().parts}


def test_every_part_and_operation_has_a_line() -> None:
    found = doctor.examine()
    assert [part.name for part in found.parts] == PARTS
    assert {part.state for part in found.parts} <= {"usable", "missing", "broken"}
    assert [row["op"] for row in found.kernels] == list(OPERATIONS)
    assert parts()["torch"].found == torch.__version__
    assert all(part.note for part in found.parts if part.state != "usable"), "what is not usable has a reason"


def test_command_prints_json_and_lines() -> None:
    asked = CliRunner().invoke(app, ["doctor", "--json"])
    found = json.loads(asked.stdout)
    assert asked.exit_code == 0 and list(found["parts"]) == PARTS
    lines = CliRunner().invoke(app, ["doctor"]).stdout.splitlines()
    for name, part in found["parts"].items():
        assert any(line.startswith(name) and part["state"] in line and part["note"] in line for line in lines)
    assert all(any(row["op"] in line and row["reason"] in line for line in lines) for row in found["kernels"])


def test_nothing_heavy_but_torch_is_imported() -> None:
    code = "import sys; from algoprog import doctor; doctor.examine(); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    loaded = set(done.stdout.split())
    assert "torch" in loaded and "deepspeed" not in loaded
    if not torch.cuda.is_available():
        assert not {"flash_attn", "triton"} & loaded


@pytest.mark.parametrize("name", ["torch", "triton", "flash-attn", "deepspeed"])
def test_a_missing_package_is_a_finding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = importlib.metadata.version

    def version(asked: str) -> str:
        if asked == name:
            raise importlib.metadata.PackageNotFoundError(name)
        return stock(asked)

    monkeypatch.setattr(importlib.metadata, "version", version)
    part = parts()[name]
    assert part.state == "missing" and part.note.startswith("pip install")


def explode(*_: Any, **__: Any) -> Any:
    raise OSError("libcuda.so.1: version mismatch\nsecond line")


@pytest.mark.parametrize(
    ("module", "attribute", "name"),
    [
        (torch.backends.cpu, "get_cpu_capability", "torch"),
        (torch.cuda, "is_available", "gpu"),
        (importlib.metadata, "version", "deepspeed"),
        (doctor.shutil, "which", "cuda toolkit"),
        (doctor.os, "sched_getaffinity", "cpu"),
    ],
)
def test_a_broken_part_stops_no_other(module: Any, attribute: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setattr(module, attribute, explode)
    found = doctor.examine()
    by_name = {part.name: part for part in found.parts}
    assert list(by_name) == PARTS
    assert by_name[name] == doctor.Part(name, "broken", None, "OSError: libcuda.so.1: version mismatch")
    assert by_name["python"].state == "usable"
    json.dumps(found.as_json(), allow_nan=False)


def test_a_wrong_request_in_the_environment_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALGOPROG_KERNELS", "fastest")
    (row,) = doctor.examine().kernels
    assert row["implementation"] == "none" and "got 'fastest' (ALGOPROG_KERNELS)" in row["reason"]


@pytest.mark.parametrize(
    ("said", "state", "found"), [("release 12.4, V12.4.1", "usable", "12.4"), ("", "broken", None)]
)
def test_the_toolkit_of_cuda_home_comes_first(
    said: str, state: str, found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "bin" / "nvcc"
    compiler.parent.mkdir()
    compiler.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, {said}'\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert parts()["cuda toolkit"] == doctor.Part("cuda toolkit", state, found, str(compiler))  # type: ignore[arg-type]
