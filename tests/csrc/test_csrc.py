"""The CUDA C++ sources: budgets where nvcc is, the table, and what the Python side says and refuses without a GPU."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from algoprog.kernels import cuda_build, cuda_driver, lstm_cluster
from algoprog.kernels.lstm_cluster import DTYPES, SOURCE, Configuration, configurations, table

NEEDS_NVCC = pytest.mark.skipif(cuda_build.find_nvcc() is None, reason="no nvcc in CUDA_HOME or on the path")
WIDTHS = (32, 64, 128, 192, 256, 384, 512, 768)


def script(name: str) -> ModuleType:
    """``csrc/name.py``, which is no part of a package."""
    spec = importlib.util.spec_from_file_location(f"csrc_{name}", cuda_build.sources() / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


check = script("check")
build = script("build")


def row(direction: str, hidden: int, tile: int = 8) -> Configuration:
    return next(r for r in table() if (r.direction, r.hidden, r.tile) == (direction, hidden, tile))


@NEEDS_NVCC
@pytest.mark.parametrize(
    ("direction", "hidden", "dtype"),
    [
        ("forward", 64, torch.float16),
        ("backward", 256, torch.bfloat16),
    ],
)
def test_kernels_keep_their_budgets(direction: str, hidden: int, dtype: torch.dtype) -> None:
    """A sample; `make csrc-check` compiles all 62."""
    report = check.compile_row(row(direction, hidden), dtype)
    assert report.broken() == [], report
    assert report.registers > 32 and report.spill_bytes == 0
    if importlib.util.find_spec("triton"):
        assert report.fences == report.allowed_fences  # in a loop they would cost a trip to memory per step


@pytest.mark.slow
@NEEDS_NVCC
def test_all_kernels_keep_their_budgets(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main() == 0
    assert "all 62 kernels within budget" in capsys.readouterr().out.splitlines()[-1]


@NEEDS_NVCC
def test_a_budget_that_does_not_hold_is_named() -> None:
    small = replace(row("forward", 32), registers=40)
    report = check.compile_row(small, torch.bfloat16)
    assert report.broken() == [f"{report.registers} registers, budget 40"]
    assert "1 of 2 kernels break a budget" in check.summary([report, replace(report, row=row("forward", 32))])


def test_spills_fences_and_shared_memory_break_budgets() -> None:
    fine = check.Report(row("backward", 256), torch.bfloat16, 200, 0, 0, 2)
    assert fine.broken() == []
    assert "64 bytes spilled" in replace(fine, spill_bytes=64).broken()[0]
    assert "8 bytes of stack" in replace(fine, stack_bytes=8).broken()[0]
    assert "3 device-wide fences, budget 2" in replace(fine, fences=3).broken()[0]
    assert "limit 232448" in replace(fine, row=replace(fine.row, shared=240_000)).broken()[0]
    assert replace(fine, fences=None).broken() == []


@NEEDS_NVCC
@pytest.mark.parametrize(
    ("change", "said"),
    [({"shared": 4096}, "another size of shared memory"), ({"cluster": 3}, "no whole tile per warp")],
)
def test_a_row_that_contradicts_the_source_does_not_compile(change: dict[str, int], said: str, tmp_path: Path) -> None:
    with pytest.raises(cuda_build.BuildError, match=said):
        cuda_build.compile_cubin(SOURCE, replace(row("forward", 64), **change).defines(torch.bfloat16), tmp_path / "x")


@NEEDS_NVCC
def test_a_build_is_kept_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALGOPROG_CACHE", str(tmp_path))
    defines = row("forward", 32).defines(torch.bfloat16)
    code = cuda_build.cubin(SOURCE, defines)
    assert code[:4] == b"\x7fELF" and b"lstm_forward" in code
    assert [path.name for path in (tmp_path / "csrc").iterdir()] == [cuda_build.cached_path(SOURCE, defines).name]
    monkeypatch.setattr(cuda_build, "find_nvcc", lambda: None)
    assert cuda_build.cubin(SOURCE, defines) == code
    with pytest.raises(cuda_build.BuildError, match="no nvcc"):
        cuda_build.cubin(SOURCE, row("forward", 32).defines(torch.float16))


def test_without_nvcc_scripts_say_so_and_succeed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")
    assert check.main() == 0 and build.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "csrc-check: skipped: no nvcc in CUDA_HOME or on the path",
        "csrc: skipped: no nvcc in CUDA_HOME or on the path",
    ]


def test_the_table_serves_every_width_in_both_directions() -> None:
    for direction in ("forward", "backward"):
        assert sorted({r.hidden for r in table() if r.direction == direction}) == list(WIDTHS)
        for hidden in range(8, 769, 8):
            found = configurations(direction, hidden)
            assert found and found[0].tile == 8
            assert {r.hidden for r in found} == {min(w for w in WIDTHS if w >= hidden)}
        assert configurations(direction, 776) == ()
    assert len({(r.direction, r.hidden, r.tile) for r in table()}) == len(table())
    for r in table():
        assert r.cluster <= (16 if r.hidden == 768 else 8)
        assert r.threads * r.registers <= 65_536 and r.threads <= 512


def test_what_a_build_is_made_from_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    defines = row("forward", 64).defines(torch.bfloat16)
    paths = {cuda_build.cached_path(SOURCE, r.defines(dtype)) for r in table() for dtype in DTYPES}
    assert len(paths) == 2 * len(table())
    before = cuda_build.cached_path(SOURCE, defines)
    (tmp_path / "lstm_cluster.cu").write_text("// another source")
    monkeypatch.setattr(cuda_build, "sources", lambda: tmp_path)
    cuda_build._source_hash.cache_clear()
    try:
        assert cuda_build.cached_path(SOURCE, defines) != before
    finally:
        cuda_build._source_hash.cache_clear()


def test_structures_have_the_layout_of_the_driver() -> None:
    """cuda.h of CUDA 13: an attribute is an id, padding to 8 bytes and a union of 64; offsets of CUlaunchConfig on 64 bits."""
    assert ctypes.sizeof(cuda_driver._Attribute) == 72 and cuda_driver._Attribute.dimension.offset == 8
    offsets = [getattr(cuda_driver._Launch, name).offset for name, *_ in cuda_driver._Launch._fields_]
    assert offsets == [0, 12, 24, 32, 40, 48] and ctypes.sizeof(cuda_driver._Launch) == 56


def test_reasons_why_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "not float32" in str(lstm_cluster.available(64, torch.float32))
    for width in (0, 4, 60, 776):
        assert f"not width {width}" in str(lstm_cluster.available(width, torch.bfloat16))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert lstm_cluster.available() == "there is no CUDA GPU"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert "this GPU has 8.0" in str(lstm_cluster.available())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(lstm_cluster, "LIBRARY", "libm.so.6")  # any library that opens
    monkeypatch.setattr(cuda_build, "find_nvcc", lambda: None)
    monkeypatch.setenv("ALGOPROG_CACHE", str(tmp_path))
    assert "no CUDA toolkit" in str(lstm_cluster.available())
    for r in (*configurations("forward", 64), *configurations("backward", 64)):
        path = cuda_build.cached_path(SOURCE, r.defines(torch.bfloat16))
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert lstm_cluster.available(64, torch.bfloat16) is None
    assert lstm_cluster.available(64) is not None
    monkeypatch.setattr(cuda_build, "find_nvcc", lambda: "nvcc")
    assert lstm_cluster.available() is None
    monkeypatch.setattr(lstm_cluster, "LIBRARY", "libno-such-driver.so")
    assert "libno-such-driver.so" in str(lstm_cluster.available())


def test_bad_arguments_are_refused_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    T, B, H = 3, 2, 16
    gates, weight = torch.zeros(T, B, 4 * H, dtype=torch.bfloat16), torch.zeros(4 * H, H, dtype=torch.bfloat16)
    h, c = torch.zeros(B, H, dtype=torch.bfloat16), torch.zeros(B, H)
    with pytest.raises(ValueError, match="gates: expected a CUDA tensor, got one on cpu"):
        lstm_cluster.forward(gates, weight, h, c, None)
    with pytest.raises(TypeError, match="gates: expected bfloat16 or float16, got torch.float32"):
        lstm_cluster.forward(gates.float(), weight, h, c, None)
    for shape in ((T, B, 4 * 12), (T, 0, 4 * H), (T, 4 * H), (1, 1, 4 * 776)):
        with pytest.raises(ValueError, match="gates: expected shape"):
            lstm_cluster.forward(torch.zeros(shape, dtype=torch.bfloat16), weight, h, c, None)

    monkeypatch.setattr(lstm_cluster, "_check_gates", lambda name, tensor: None)  # as if these were on a GPU
    monkeypatch.setattr(lstm_cluster, "_kernel", lambda *_: pytest.fail("a kernel was asked for"))
    with pytest.raises(ValueError, match=r"weight: expected shape \(64, 16\), got \(16, 64\)"):
        lstm_cluster.forward(gates, weight.T, h, c, None)
    with pytest.raises(TypeError, match="c0: expected torch.float32"):
        lstm_cluster.forward(gates, weight, h, h, None)
    with pytest.raises(TypeError, match="keep: expected uint8 or bool"):
        lstm_cluster.forward(gates, weight, h, c, torch.ones(T, B))
    with pytest.raises(ValueError, match=r"keep: expected shape \(3, 2\)"):
        lstm_cluster.forward(gates, weight, h, c, torch.ones(B, T, dtype=torch.bool))
    dy, cell = torch.zeros(T, B, H, dtype=torch.bfloat16), torch.zeros(T, B, H)
    with pytest.raises(ValueError, match="bptt: expected at least 1, got 0"):
        lstm_cluster.backward(dy, h, c, gates, weight, c, cell, None, None, 0)
    with pytest.raises(TypeError, match="last: expected torch.int64"):
        lstm_cluster.backward(dy, h, c, gates, weight, c, cell, None, torch.zeros(B), 3)
    with pytest.raises(ValueError, match="dhidden: expected shape"):
        lstm_cluster.backward(dy[1:], h, c, gates, weight, c, cell, None, None, 3)


def test_arguments_reach_the_kernel_in_the_order_of_its_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    """The launch is recorded, not made. Order and number of the pointers as in lstm_cluster.cu."""
    T, B, H, launched = 3, 11, 16, []

    class Recorder:
        resident = 1

        def launch(self, clusters: int, tensors: list[torch.Tensor | None], numbers: list[int]) -> None:
            assert all(t is None or (t.is_contiguous() and t.data_ptr() % 16 == 0) for t in tensors)
            launched.append((clusters, [None if t is None else tuple(t.shape) for t in tensors], numbers))

    monkeypatch.setattr(lstm_cluster, "_check_gates", lambda name, tensor: None)
    monkeypatch.setattr(lstm_cluster, "_load", lambda *_: Recorder())
    gates = torch.zeros(4 * H, T, B, dtype=torch.bfloat16).permute(1, 2, 0)  # strided: copied
    weight = torch.zeros(4 * H * H + 1, dtype=torch.bfloat16)[1:].view(4 * H, H)  # not on 16 bytes: copied
    h, c, keep = torch.zeros(B, H, dtype=torch.bfloat16), torch.zeros(B, H), torch.ones(T, B, dtype=torch.bool)
    hidden, cell, saved = lstm_cluster.forward(gates, weight, h, c, keep)
    assert (hidden.shape, hidden.dtype, cell.dtype, saved.shape) == ((T, B, H), h.dtype, c.dtype, gates.shape)
    lstm_cluster.backward(hidden, h, c, saved, weight, c, cell, None, torch.zeros(B, dtype=torch.int64), 2**40)
    wide, state, line = (T, B, 4 * H), (T, B, H), (B, H)
    assert launched == [
        (1, [wide, (4 * H, H), line, line, (T, B), state, state, wide], [T, B, H]),  # 11 sequences: one tile of 16
        (1, [(4 * H, H), wide, state, line, None, state, line, line, (B,), wide, line, line], [T, B, H, T]),
    ]
    text = (cuda_build.sources() / SOURCE).read_text()
    for direction, (_, tensors, numbers) in zip(("forward", "backward"), launched, strict=True):
        signature = text.split(f"lstm_{direction}(")[1].split(")")[0]
        assert signature.count("*") == len(tensors) and signature.count(",") + 1 == len(tensors) + len(numbers)


def test_the_first_call_of_a_kernel_is_refused_inside_a_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="before the graph is captured"):
        lstm_cluster._load(row("forward", 64), torch.bfloat16, 0)
