"""What only a GPU can show: graphs, synchronisation, repeatability, memory beyond 2^31 elements, whole runs.

The accuracy tests of ``tests/kernels/fused`` run on the GPU as well where there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from algoprog import kernels
from algoprog.config import BudgetConfig
from algoprog.data.store import TokenStore
from algoprog.models import build_model
from algoprog.recipes import resolve
from algoprog.training.engines import Engine
from algoprog.training.loop import train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]


def model(implementation: str, dtype: torch.dtype, width: int = 64) -> tuple[torch.nn.Module, Tensor]:
    config = resolve("modern", width, BudgetConfig(tokens=2**16), data={"tokenizer": "bpe-1024"}, lr=0.01,
                     overrides={"model": {"context": 128, "depth": 3, "heads": 2}}).model  # fmt: skip
    operations = kernels.select(implementation, torch.device("cuda"), dtype)
    tokens = torch.randint(0, 1024, (8, 129), generator=torch.Generator().manual_seed(0)).cuda()
    return build_model(config, 0, dtype, operations).cuda(), tokens


def step(net: torch.nn.Module, tokens: Tensor) -> list[Tensor]:
    loss, _ = net(tokens[:, :-1], tokens[:, 1:])
    return [loss, *torch.autograd.grad(loss, list(net.parameters()))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_and_backward_in_a_graph_equal_eager_bit_for_bit(dtype: torch.dtype) -> None:
    net, tokens = model("fused", dtype)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            eager = step(net, tokens)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(net, tokens)
    for _ in range(10):
        graph.replay()
        assert all(torch.equal(a, b) for a, b in zip(captured, eager, strict=True))


def test_no_operation_waits_for_the_device() -> None:
    net, tokens = model("fused", torch.bfloat16)
    step(net, tokens)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(net, tokens)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_equals_eager(dtype: torch.dtype) -> None:
    net, tokens = model("fused", dtype)
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    for got, wanted in zip(step(torch.compile(net, fullgraph=True), tokens), step(net, tokens), strict=True):
        assert (got - wanted).norm() <= tolerance * wanted.norm()


def large_rms_norm() -> tuple[Tensor, Tensor]:
    x = torch.randn(2**19 + 1, 4096, device="cuda", dtype=torch.bfloat16)
    weight = torch.rand(4096, device="cuda") + 0.5
    y = kernels.select("fused", x.device, x.dtype).rms_norm(x, weight, 1e-6)
    return y[-3:], kernels.rms_norm(x[-3:], weight, 1e-6)


def large_swiglu() -> tuple[Tensor, Tensor]:
    packed = torch.randn(2**19 + 1, 4096, device="cuda", dtype=torch.bfloat16)
    return kernels.select("fused", packed.device, packed.dtype).swiglu(packed)[-3:], kernels.swiglu(packed[-3:])


def large_rope() -> tuple[Tensor, Tensor]:
    qkv = torch.randn(2**14 + 1, 64, 2304, device="cuda", dtype=torch.bfloat16)
    angle = torch.rand(64, 32, device="cuda")
    q, *_ = kernels.select("fused", qkv.device, qkv.dtype).rope(qkv, angle.cos(), angle.sin(), 12)
    return q[-1:], kernels.rope(qkv[-1:], angle.cos(), angle.sin(), 12)[0]


@pytest.mark.parametrize("case", [large_rms_norm, large_swiglu, large_rope])
def test_tensors_beyond_two_to_the_31_elements(case: Callable[[], tuple[Tensor, Tensor]]) -> None:
    if torch.cuda.mem_get_info()[0] < 24 * 2**30:
        pytest.skip("needs 24 GiB of free GPU memory")
    torch.testing.assert_close(*case(), rtol=2e-2, atol=2e-2)
    torch.cuda.empty_cache()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fused_and_reference_kernels_give_one_loss_curve(precision: Any, periodic: TokenStore, engine: Engine) -> None:
    config = resolve("modern", 64, BudgetConfig(tokens=50 * 8 * 64), data={"tokenizer": "bpe-300"}, lr=0.003,
                     precision=precision, overrides={"batch": 8, "model": {"context": 64, "heads": 2}})  # fmt: skip
    curves = []
    for request in ("reference", "fused", "auto"):
        rows: list[dict[str, Any]] = []
        outcome = train(config, periodic, engine, kernels=request, on_metrics=rows.append)
        assert ("rms_norm" in outcome.kernels["fused"]) == (request != "reference")
        curves.append(torch.tensor([row["loss"] for row in rows]))
    tolerance = 1e-3 if precision == "fp32" else 3e-2
    torch.testing.assert_close(curves[1], curves[0], rtol=tolerance, atol=0)
    assert torch.equal(curves[1], curves[2])
