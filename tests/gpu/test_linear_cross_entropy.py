"""The vocabulary head at the size it is used: memory, CUDA graphs, no waiting for the GPU, PyTorch's own fp32 sums."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from algoprog.kernels import reference

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

ROWS, VOCAB = 4096, 50257
METHODS = {"flash": 64, "chunked": 512}


def case(width: int, rows: int = ROWS) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator("cuda").manual_seed(0)
    x = torch.randn(rows, width, device="cuda", generator=generator).bfloat16().requires_grad_()
    w = (torch.randn(VOCAB, width, device="cuda", generator=generator) / width**0.5).requires_grad_()
    target = torch.randint(VOCAB, (rows,), device="cuda", generator=generator)
    target[::7] = -100
    return x, w, target


def head(method: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    from algoprog.kernels.fused.linear_cross_entropy import linear_cross_entropy

    return lambda x, w, target: linear_cross_entropy(x, w, None, target, reduction="mean", method=method)


@pytest.mark.parametrize("method", METHODS)
def test_twice_the_error_of_eager_at_full_size(method: str) -> None:
    x, w, target = case(METHODS[method])
    with torch.no_grad():
        w.copy_(w.bfloat16())
    losses, errors = [], []
    exact = reference.linear_cross_entropy(x.double(), w.double(), None, target, reduction="mean")
    truth = torch.autograd.grad(exact, (x, w))
    for loss in (
        head(method)(x, w, target),
        reference.linear_cross_entropy(x, w, None, target, reduction="mean"),
    ):
        found = torch.autograd.grad(loss, (x, w))
        losses.append((loss - exact).abs().item() / exact.item())
        errors.append(
            [((a.double() - b.double()).norm() / b.double().norm()).item() for a, b in zip(found, truth, strict=True)]
        )
    assert losses[0] <= 2 * losses[1] + 1e-6
    assert all(ours <= 2 * plain + 4e-4 and plain < 0.02 for ours, plain in zip(*errors, strict=True)), errors


@pytest.mark.parametrize("method", METHODS)
def test_memory_stays_far_below_the_logits(method: str) -> None:
    x, w, target = case(METHODS[method])
    head(method)(x, w, target).backward()  # compiled, workspaces of the libraries made
    x.grad = w.grad = None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    head(method)(x, w, target).backward()
    used = torch.cuda.max_memory_allocated() - before
    gradients_and_copies = w.numel() * (2 + 4 + 4) + x.numel() * (2 + 2 + 16 * 4)
    assert used < gradients_and_copies + 64e6
    assert method == "chunked" or used < ROWS * VOCAB * 2 / 2


@pytest.mark.parametrize("method", METHODS)
def test_a_captured_graph_repeats_the_eager_step_bit_for_bit(method: str) -> None:
    x, w, target = case(METHODS[method], rows=1000)
    step = head(method)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(2):
            eager = torch.autograd.grad(step(x, w, target), (x, w))
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        captured = torch.autograd.grad(step(x, w, target), (x, w))
    for _ in range(10):
        graph.replay()
        torch.cuda.synchronize()
        assert all(torch.equal(a, b) for a, b in zip(captured, eager, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_nothing_waits_for_the_gpu(method: str) -> None:
    x, w, target = case(METHODS[method], rows=300)
    head(method)(x, w, target).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        head(method)(x, w, target).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
