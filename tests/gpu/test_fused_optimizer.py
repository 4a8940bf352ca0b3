"""The optimiser and attention on a GPU: a captured step, no synchronisation, every backend."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from algoprog import kernels
from algoprog.kernels import FlatAdamW

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]


def optimizer(seed: int = 0) -> tuple[list[nn.Parameter], FlatAdamW]:
    generator = torch.Generator("cuda").manual_seed(seed)
    params = [nn.Parameter(torch.randn(n, 64, device="cuda", generator=generator)) for n in (500, 3, 70)]
    update = kernels.select("fused", torch.device("cuda"), torch.float32).adamw_
    made = FlatAdamW(params, 0.01, max_norm=1.0, factors=[0.1, 0.5, 1.0], shadow=torch.bfloat16, update=update)
    made.zero_grad()
    return params, made


def fill(params: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator("cuda").manual_seed(100 + step)
    for p in params:
        assert p.grad is not None
        p.grad.copy_(torch.randn(p.shape, device="cuda", generator=generator))


def test_replays_equal_eager_steps_bit_for_bit_and_follow_the_rate() -> None:
    eager, plain = optimizer()
    captured, flat = optimizer(1)
    flat.step()  # compiles; the state is overwritten below
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        flat.step()
    with torch.no_grad():
        for p, q in zip(captured, eager, strict=True):
            p.copy_(q)
    flat.load_state_dict(plain.state_dict())
    for step in range(6):
        fill(eager, step)
        fill(captured, step)
        for one in (plain, flat):
            one.param_groups[0]["lr"] = 0.01 / (1 + step)
        plain.step()
        flat.refresh()
        graph.replay()
        assert torch.equal(plain.grad_norm, flat.grad_norm)
        assert all(torch.equal(p, q) for p, q in zip(captured, eager, strict=True))
    assert all(torch.equal(flat.shadow_of(p), p.bfloat16()) for p in captured)


def test_a_changed_number_during_capture_is_refused() -> None:
    params, flat = optimizer()
    flat.step()
    flat.param_groups[0]["lr"] = 0.5
    with (
        pytest.raises(ValueError, match="no change of a number during capture"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        flat.step()


def test_a_step_never_waits_for_the_device() -> None:
    params, flat = optimizer()
    fill(params, 0)
    flat.step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        flat.param_groups[0]["lr"] = 0.02
        flat.step(loss=params[0].sum())
        flat.zero_grad()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("backend", ["auto", "flash-attn", "cudnn", "flash", "efficient", "math"])
@pytest.mark.parametrize("head_dim", [16, 24, 33, 64, 96, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_by_every_backend(
    backend: str, head_dim: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    from algoprog.kernels.fused import attention

    monkeypatch.setenv("ALGOPROG_ATTENTION", backend)
    q, k, v = (torch.randn(2, 4, 130, head_dim, device="cuda", dtype=dtype, requires_grad=True) for _ in range(3))
    try:
        attention.choose(q.device, dtype, head_dim)
    except ValueError as why:
        pytest.skip(str(why))
    upstream = torch.randn_like(q)

    def results(function: object, *arguments: Tensor) -> list[Tensor]:
        assert callable(function)
        out = function(*arguments)
        return [out, *torch.autograd.grad(out, arguments, upstream.to(out.dtype))]

    exact = results(kernels.causal_attention, *(x.detach().double().requires_grad_() for x in (q, k, v)))
    for got, want in zip(results(attention.causal_attention, q, k, v), exact, strict=True):
        assert (got.double() - want).norm() <= (0.02 if dtype == torch.bfloat16 else 1e-5) * want.norm()
