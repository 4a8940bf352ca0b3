"""Compiles kernels for a GPU that is not there, exactly as a launcher would launch them, and reads what the compiler made.

A launcher runs with its kernel replaced by a recorder, on CPU tensors; the recorded arguments are then compiled ahead of
time for a compute capability, specialised as Triton's JIT specialises them, and ``cuobjdump`` and ``nvdisasm`` from the
triton wheel tell registers, spills, shared memory and the widths of loads and stores. What it says about speed: nothing.
"""

from __future__ import annotations

import collections
import functools
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

TYPES = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.float64: "*fp64",
    torch.int64: "*i64",
    torch.int32: "*i32",
}


@dataclass(frozen=True)
class Compiled:
    """``loads`` and ``stores`` of global memory: bits -> instructions. ``stack`` is bytes per thread, spills included."""

    registers: int
    stack: int
    shared: int
    loads: dict[int, int]
    stores: dict[int, int]
    sass: str


def compile_call(kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any], capability: int) -> Compiled:
    """Compile one recorded launch for a compute capability (80, 90)."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    options = {name: kwargs[name] for name in ("num_warps", "num_stages") if name in kwargs}
    values = dict(zip(kernel.arg_names, args, strict=False)) | {k: v for k, v in kwargs.items() if k not in options}
    signature: dict[str, str] = {}
    constants: dict[tuple[int], Any] = {}
    attributes: dict[tuple[int], Any] = {}
    for param in kernel.params:
        value, at = values[param.name], (param.num,)
        one = isinstance(value, int) and value == 1 and _specialised(param)
        constant = param.is_constexpr or value is None or one
        if constant:
            signature[param.name], constants[at] = "constexpr", value
        elif isinstance(value, Tensor):
            signature[param.name] = TYPES[value.dtype]
            if value.data_ptr() % 16 == 0:
                attributes[at] = [["tt.divisibility", 16]]
        else:
            signature[param.name] = "i32" if value < 2**31 else "i64"
            if _specialised(param) and value % 16 == 0:
                attributes[at] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        usage, sass = _tool("cuobjdump", "--dump-resource-usage", file.name), _tool("nvdisasm", "-c", file.name)
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found is not None
    widths = (_widths(sass, name) for name in ("LDG", "STG"))
    return Compiled(int(found[1]), int(found[2]), built.metadata.shared, *widths, sass)


def _specialised(param: Any) -> bool:
    return not param.do_not_specialize


def _widths(sass: str, instruction: str) -> dict[int, int]:
    widths: collections.Counter[int] = collections.Counter()
    for suffixes in re.findall(rf"\b{instruction}((?:\.\w+)*)", sass):
        parts = suffixes.split(".")
        widths[next((int(p.lstrip("US")) for p in parts if p in ("U8", "S8", "U16", "S16", "64", "128")), 32)] += 1
    return dict(widths)


def _tool(name: str, *args: str) -> str:
    import triton

    folder = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    return subprocess.run([folder / name, *args], capture_output=True, text=True, check=True).stdout


class _Recorder:
    """Stands in for a kernel: ``kernel[grid](...)`` is written down instead of launched."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.calls = kernel, list[tuple[tuple[Any, ...], dict[str, Any]]]()

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda *args, **kwargs: self.calls.append((args, kwargs))


@pytest.fixture(scope="session", autouse=True)
def _private_compile_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    try:
        import triton
    except ModuleNotFoundError:
        return
    triton.knobs.cache.dir = str(tmp_path_factory.mktemp("triton-cache"))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Compiled]:
    """``compiled(module, "kernel", launch, capability)``: the launch of ``module.kernel`` that ``launch()`` makes."""

    def record(module: Any, name: str, launch: Callable[[], object], capability: int) -> Compiled:
        recorder = _Recorder(getattr(module, name))
        monkeypatch.setattr(module, name, recorder)
        launch()
        monkeypatch.setattr(module, name, recorder.kernel)
        assert len(recorder.calls) == 1, f"{name} was launched {len(recorder.calls)} times"
        return compile_call(recorder.kernel, *recorder.calls[0], capability)

    return functools.partial(record)
