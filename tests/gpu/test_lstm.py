"""The LSTM on a GPU: against float64, in CUDA graphs, two captured runs on two streams at once, under compute-sanitizer.

The accuracy tests of ``tests/kernels/fused/test_lstm_kernels.py`` run on the GPU as well where there is one; these add what
the interpreter cannot show. ``compute-sanitizer --tool memcheck python -m pytest tests/gpu/test_lstm.py -k small`` (racecheck,
synccheck and initcheck alike) keeps to cases that finish in seconds there.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from algoprog.config import LstmConfig
from algoprog.kernels import LSTM, reference, select
from algoprog.kernels.lstm import lstm, why_not
from algoprog.models import build_model

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16
CAP = {FP32: 1e-4, BF16: 0.03, FP16: 0.01}


def problem(B: int, T: int, H: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """x, h, c, W_ih, W_hh, b_ih, b_hh on the GPU, with gradients."""
    generator = torch.Generator().manual_seed(B + T + H)
    shapes = ((B, T, H), (1, B, H), (1, B, H), (4 * H, H), (4 * H, H), (4 * H,), (4 * H,))
    scales = (1.0, 1.0, 1.0, H**-0.5, H**-0.5, 0.5, 0.5)
    return tuple(
        (torch.randn(shape, generator=generator) * scale).to("cuda", dtype).requires_grad_()
        for shape, scale in zip(shapes, scales, strict=True)
    )


def everything(run: Callable[..., tuple[Tensor, tuple[Tensor, Tensor]]], args: tuple[Tensor, ...]) -> list[Tensor]:
    """y, h_n, c_n and all gradients, for fixed upstream gradients."""
    x, h, c, w_x, w_h, *biases = args
    y, (h_n, c_n) = run(x, (h, c), (w_x, w_h), tuple(biases))
    up = [torch.randn(o.shape, generator=torch.Generator().manual_seed(i)).to(o) for i, o in enumerate((y, h_n, c_n))]
    return [y.detach(), h_n.detach(), c_n.detach(), *torch.autograd.grad((y, h_n, c_n), args, up)]


def agrees(kernel: str, dtype: torch.dtype, B: int, T: int, H: int) -> None:
    """Error against float64 at most twice that of plain PyTorch in the same type, step by step, plus a floor."""
    obstacle = why_not(kernel, H, dtype, torch.device("cuda"), False)
    if obstacle is not None:
        pytest.skip(f"{kernel}: {obstacle}")
    args = problem(B, T, H, dtype)
    exact = everything(reference.lstm_steps, tuple(a.detach().double().requires_grad_() for a in args))
    plain = everything(reference.lstm_steps, args)
    ours = everything(lambda *a: lstm(*a, kernel=kernel), args)
    for i, (got, eager, truth) in enumerate(zip(ours, plain, exact, strict=True)):
        error, allowed = (((v.double() - truth).norm() / truth.norm()).item() for v in (got, eager))
        assert allowed <= CAP[dtype], f"result {i}: the eager reference is off by {allowed:.1e}"
        assert error <= 2 * allowed + 2e-6, f"result {i}: error {error:.2e}, eager {allowed:.2e}"


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
@pytest.mark.parametrize(("kernel", "H"), [("tile", 32), ("tile", 64), ("group", 136), ("cluster", 64)])
def test_small_cases_agree_with_float64(kernel: str, H: int, dtype: torch.dtype) -> None:
    agrees(kernel, dtype, 19, 4, H)


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
@pytest.mark.parametrize(
    ("kernel", "H"), [("tile", 64), ("tile", 128), ("group", 256), ("group", 1024), ("cluster", 128), ("cluster", 512)]
)
def test_a_window_agrees_with_float64(kernel: str, H: int, dtype: torch.dtype) -> None:
    agrees(kernel, dtype, 64, 64, H)


@pytest.mark.parametrize(("kernel", "H"), [("tile", 64), ("group", 256), ("cluster", 256)])
def test_4096_steps_stay_near_float64(kernel: str, H: int) -> None:
    obstacle = why_not(kernel, H, BF16, torch.device("cuda"), False)
    if obstacle is not None:
        pytest.skip(f"{kernel}: {obstacle}")
    args = tuple(a.detach() for a in problem(8, 4096, H, BF16))
    x, h, c, w_x, w_h, *biases = args
    y, _ = lstm(x, (h, c), (w_x, w_h), tuple(biases), kernel=kernel)  # type: ignore[arg-type]
    x, h, c, w_x, w_h, *biases = (a.double() for a in args)
    truth, _ = reference.lstm(x, (h, c), (w_x, w_h), tuple(biases))  # type: ignore[arg-type]
    assert ((y.double() - truth).norm() / truth.norm()).item() <= 0.05


def model(width: int) -> tuple[torch.nn.Module, Tensor]:
    config = LstmConfig.model_validate({"width": width, "depth": 2, "vocab": 512, "context": 64, "bptt": 16})
    operations = select("fused", torch.device("cuda"), BF16)
    tokens = torch.randint(0, 512, (16, 65), generator=torch.Generator().manual_seed(0)).cuda()
    return build_model(config, 0, BF16, operations).cuda(), tokens


def step(net: torch.nn.Module, tokens: Tensor) -> list[Tensor]:
    loss, _ = net(tokens[:, :-1], tokens[:, 1:])
    return [loss, *torch.autograd.grad(loss, list(net.parameters()))]


def capture(net: torch.nn.Module, tokens: Tensor) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            step(net, tokens)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step(net, tokens)
    return graph, found


@pytest.mark.parametrize("width", [64, 256])
def test_a_captured_step_equals_eager_bit_for_bit(width: int) -> None:
    net, tokens = model(width)
    eager = [t.clone() for t in step(net, tokens)]
    graph, captured = capture(net, tokens)
    for _ in range(10):
        graph.replay()
        assert all(torch.equal(a, b) for a, b in zip(captured, eager, strict=True))


@pytest.mark.parametrize("width", [64, 256])
def test_two_captured_runs_on_two_streams(width: int) -> None:
    """No kernel waits for blocks of another launch, so runs that share the GPU finish, and with the bits of a run alone."""
    runs = [capture(*model(width)) for _ in range(2)]
    alone = []
    for graph, found in runs:
        graph.replay()
        torch.cuda.synchronize()
        alone.append([t.clone() for t in found])
    streams = [torch.cuda.Stream() for _ in runs]
    for _ in range(50):
        for stream, (graph, _) in zip(streams, runs, strict=True):
            with torch.cuda.stream(stream):
                graph.replay()
    torch.cuda.synchronize()
    for (_, found), wanted in zip(runs, alone, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_no_step_waits_for_the_device() -> None:
    net, tokens = model(64)
    step(net, tokens)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(net, tokens)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("kernel", "H"), [("tile", 64), ("group", 256)])
def test_compiled_equals_eager(kernel: str, H: int) -> None:
    module = LSTM(H, H, 2, kernel=kernel).to("cuda", BF16)
    x = torch.randn(32, 8, H, device="cuda", dtype=BF16)
    for got, wanted in zip(torch.compile(module, fullgraph=True)(x)[1], module(x)[1], strict=True):
        assert (got - wanted).norm() <= 0.05 * wanted.norm()


def test_auto_is_cudnn_until_measured() -> None:
    operations = select("auto", torch.device("cuda"), BF16)
    assert "lstm" in operations.record()["reference"] or operations.record().get("measured") == ["lstm"]
