"""What compiles is seen, and a warm-up leaves nothing to compile. With Triton's compiler and no GPU: a target is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from algoprog.kernels import compilations, warm_up

triton = pytest.importorskip("triton", reason='needs triton: pip install "algoprog[triton]"')
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("interpreted kernels cannot be compiled", allow_module_level=True)


@pytest.fixture
def compile_relu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    """Compiles one kernel for sm_90; the second time it comes from the cache on disk."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from algoprog.kernels.fused import activations

    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))
    kernel = activations.plain_forward
    values = {"KIND": "relu", "UNIT": 16, "TILE": 64}
    signature = {"x_ptr": "*fp32", "y_ptr": "*fp32", "elements": "i32", **dict.fromkeys(values, "constexpr")}
    constants = {(kernel.arg_names.index(name),): value for name, value in values.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return lambda: triton.compile(source, target=GPUTarget("cuda", 90, 32))


def test_a_compilation_is_seen_by_name_also_from_the_cache_on_disk(compile_relu: Callable[[], object]) -> None:
    for _ in range(2):
        with compilations() as found:
            compile_relu()
        assert found == ["plain_forward"]
    compile_relu()
    assert found == ["plain_forward"]  # nobody listens after the end


def test_an_earlier_listener_hears_it_too_and_is_put_back(compile_relu: Callable[[], object]) -> None:
    heard: list[Any] = []
    triton.knobs.compilation.listener = listener = lambda **event: heard.append(event["cache_hit"])
    try:
        with compilations() as found, compilations() as inner:
            compile_relu()
        assert found == inner == ["plain_forward"] and heard == [False]
        assert triton.knobs.compilation.listener is listener
        with pytest.raises(ZeroDivisionError), compilations():
            raise ZeroDivisionError
        assert triton.knobs.compilation.listener is listener
    finally:
        triton.knobs.compilation.listener = None


def test_warm_up_calls_twice_and_complains_of_what_never_gets_warm(compile_relu: Callable[[], object]) -> None:
    calls: list[int] = []
    compiled: list[Any] = []

    def once() -> None:  # as a launch does: compile what is not in memory
        calls.append(1)
        if not compiled:
            compiled.append(compile_relu())

    assert warm_up(once, lambda: torch.ones(2) + 1) == ["plain_forward"]
    assert len(calls) == 2 and warm_up(once) == []
    with pytest.raises(RuntimeError, match="expected nothing left to compile, got plain_forward at the second call"):
        warm_up(compile_relu)
