"""Which implementation runs, why, and that nothing falls back in silence. On a CPU, without the interpreter."""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
import sys

import pytest
import torch

from algoprog import kernels
from algoprog.config import BudgetConfig, InputError
from algoprog.data.store import TokenStore
from algoprog.kernels import dispatch, reference
from algoprog.kernels.dispatch import OPERATIONS
from algoprog.models import build_model
from algoprog.recipes import resolve
from algoprog.training.engines import Engine
from algoprog.training.loop import train

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.delenv("ALGOPROG_KERNELS", raising=False)


def test_auto_on_a_cpu_is_the_reference_and_says_why() -> None:
    operations = kernels.select("auto", CPU, torch.float32)
    assert operations.record() == {"fused": [], "reference": list(OPERATIONS)}
    assert all(getattr(operations, op) is getattr(reference, op) for op in OPERATIONS)
    reasons = {choice.op: choice.reason for choice in operations.choices}
    assert reasons["rms_norm"] == "fused kernels need a CUDA device, not cpu"


def test_describe_has_one_row_per_operation() -> None:
    rows = kernels.describe(CPU)
    assert [row["op"] for row in rows] == list(OPERATIONS)
    assert all(row.keys() == {"op", "implementation", "reason"} for row in rows)


@pytest.mark.parametrize("capability, fused", [((9, 0), True), ((8, 0), True), ((7, 5), False)])
def test_auto_on_a_gpu(capability: tuple[int, int], fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    operations = kernels.select("auto", torch.device("cuda"), torch.bfloat16)
    wanted = [op for op in dispatch.FUSED if fused and op not in dispatch.WHEN_MEASURED]
    assert sorted(operations.record()["fused"]) == sorted(wanted)
    by_op = {choice.op: choice for choice in operations.choices}
    assert by_op["rms_norm"].reason == ("usable" if fused else "compute capability 7.5 is below 8.0")
    if not fused:
        with pytest.raises(
            kernels.Unavailable, match=r"fused kernels cannot run here: compute capability 7\.5 is below"
        ):
            kernels.select("fused", torch.device("cuda"), torch.bfloat16)


def test_fused_on_a_cpu_is_an_error_never_a_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        kernels.Unavailable, match="cannot run here: they need a CUDA device, not cpu; use auto or reference"
    ):
        kernels.select("fused", CPU, torch.float32)
    monkeypatch.setenv("ALGOPROG_KERNELS", "fused")
    with pytest.raises(kernels.Unavailable, match="need a CUDA device"):
        kernels.select("auto", CPU, torch.float32)
    assert kernels.select("reference", CPU, torch.float32).record()["fused"] == []  # the argument wins


@pytest.mark.parametrize("variable", [False, True])
def test_unknown_requests_are_errors(variable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if variable:
        monkeypatch.setenv("ALGOPROG_KERNELS", "fast")
    source = "ALGOPROG_KERNELS" if variable else "requested"
    with pytest.raises(kernels.Unavailable, match=rf"expected auto, reference, fused or cpu, got 'fast' \({source}\)"):
        kernels.select("auto" if variable else "fast", CPU, torch.float32)


def test_a_run_records_its_kernels_and_keeps_its_name(periodic: TokenStore, engine: Engine) -> None:
    config = resolve("modern", 16, BudgetConfig(tokens=128), data={"tokenizer": "bpe-300"}, lr=0.01,
                     overrides={"batch": 4, "model": {"context": 16, "depth": 1}})  # fmt: skip
    outcomes = [train(config, periodic, engine, kernels=request) for request in ("auto", "reference")]
    record = json.loads(json.dumps(dataclasses.asdict(outcomes[0])))
    assert record["kernels"] == {"fused": [], "reference": list(OPERATIONS)}
    assert outcomes[0].loss == outcomes[1].loss
    assert "kernels" not in config.model_dump()
    with pytest.raises(InputError, match="--kernels: kernels: fused kernels cannot run here"):
        train(config, periodic, engine, kernels="fused")


def test_models_use_the_operations_that_they_are_given() -> None:
    called = []

    def watched(op: str) -> object:
        plain = getattr(reference, op)
        return lambda *args, **kwargs: called.append(op) or plain(*args, **kwargs)

    operations = dataclasses.replace(kernels.REFERENCE, **{op: watched(op) for op in OPERATIONS})
    tokens = torch.arange(32).view(2, 16)
    for arch, used in (
        ("modern", {"rms_norm", "add_rms_norm", "swiglu", "rope"}),
        ("retro", {"add_layer_norm", "gelu"}),
        ("lstm", {"lstm"}),
    ):
        config = resolve(arch, 16, BudgetConfig(tokens=512), data={"tokenizer": "bpe-300"}, lr=0.01,
                         overrides={"model": {"context": 16} | ({"bptt": 8} if arch == "lstm" else {})})  # fmt: skip
        build_model(config.model, 0, operations=operations)(tokens, tokens)
        assert used | {"linear_cross_entropy"} <= set(called), arch
        called.clear()


def test_everything_imports_and_runs_without_triton() -> None:
    code = """
import sys, importlib.util
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "triton":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "triton" else real(name, package)
import torch
from algoprog import kernels
assert kernels.select("auto", torch.device("cpu"), torch.float32).record()["fused"] == []
kernels.rms_norm(torch.ones(2, 4), torch.ones(4), 1e-6)
try:
    kernels.select("fused", torch.device("cuda"), torch.float32)
except kernels.Unavailable as problem:
    assert "triton is not installed" in str(problem), problem
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "refused\n", done.stderr


def test_a_cpu_run_does_not_import_triton_kernels() -> None:
    code = (
        "import sys, torch; from algoprog import kernels; kernels.select('auto', torch.device('cpu'), torch.float32); "
        "sys.exit(any(name.startswith('algoprog.kernels.fused') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def on_cpu() -> dict[str, tuple[str, tuple[object, ...], dict[str, object]]]:
    """Operation -> the argument that names the device, and arguments that are right but for their device."""
    x, gain, table, target = torch.ones(2, 8), torch.ones(8), torch.ones(3, 2), torch.zeros(2, dtype=torch.int64)
    qkv, quarter = torch.ones(1, 3, 12), torch.ones(4)
    return {
        "rms_norm": ("x", (x, gain, 1e-6), {}),
        "add_rms_norm": ("x", (x, x, gain, 1e-6), {}),
        "layer_norm": ("x", (x, gain, None, 1e-6), {}),
        "add_layer_norm": ("x", (x, x, gain, gain, 1e-6), {}),
        "swiglu": ("gate_up", (x,), {}),
        "gated_linear_unit": ("gate_up", (x,), {}),
        "gelu": ("x", (x,), {}),
        "relu": ("x", (x,), {}),
        "rope": ("qkv", (qkv, table, table, 1), {}),
        "qk_norm_rope": ("qkv", (qkv, quarter, quarter, table, table, 1), {"eps": 1e-6}),
        "linear_cross_entropy": ("hidden", (x, torch.ones(5, 8), None, target), {}),
    }


@pytest.mark.parametrize("op", on_cpu())
def test_kernels_refuse_cpu_tensors_without_the_interpreter(op: str) -> None:
    pytest.importorskip("triton")
    argument, given, how = on_cpu()[op]
    module = importlib.import_module(f"algoprog.kernels.fused.{dispatch.FUSED[op]}")
    with pytest.raises(ValueError, match=f"^{op}: {argument}: expected a CUDA tensor, got cpu"):
        getattr(module, op)(*given, **how)
    getattr(reference, op)(*given, **how)  # the arguments are right
