"""The CUDA C++ LSTM on a GPU: accuracy, graph capture, streams, repeatability. Run once under compute-sanitizer as well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from algoprog.kernels import cuda_build, lstm_cluster

WHY_NOT = lstm_cluster.available()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(WHY_NOT is not None, reason=f"{WHY_NOT}")]

CAP = {torch.bfloat16: 0.02, torch.float16: 0.004}
FLOOR = 2e-6
NAMES = ("hidden", "cell", "dgates", "dh0", "dc0")


@pytest.fixture(autouse=True)
def poison() -> Iterator[None]:
    """In this mode PyTorch fills what `empty` returns with NaN, so that an output nobody wrote shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def draw(
    T: int, B: int, H: int, dtype: torch.dtype, resets: bool = True, scale: float = 1.0
) -> dict[str, Tensor | None]:
    seed = int(torch.randint(2**31, ()))
    print("seed", seed)
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    inputs = {
        "gates": (normal(T, B, 4 * H) * scale).to(dtype), "weight": (normal(4 * H, H) * H**-0.5).to(dtype),
        "h0": normal(B, H).to(dtype), "c0": normal(B, H), "dy": normal(T, B, H).to(dtype),
        "dh_n": normal(B, H).to(dtype), "dc_n": normal(B, H),
        "keep": (torch.rand(T, B, generator=g) > 0.1).to(torch.uint8) if resets else None,
    }  # fmt: skip
    return {name: None if value is None else value.cuda() for name, value in inputs.items()}


def kernel(p: dict[str, Tensor | None], bptt: int = 2**20) -> list[Tensor]:
    hidden, cell, saved = lstm_cluster.forward(p["gates"], p["weight"], p["h0"], p["c0"], p["keep"])  # type: ignore[arg-type]
    gradients = lstm_cluster.backward(
        p["dy"], p["dh_n"], p["dc_n"], saved, p["weight"], p["c0"], cell, p["keep"], None, bptt  # type: ignore[arg-type]
    )  # fmt: skip
    return [hidden, cell, *gradients]


def plain(p: dict[str, Tensor | None], dtype: torch.dtype, bptt: int = 2**20) -> list[Tensor]:
    gates, weight, h0, c0 = (p[name].to(dtype).requires_grad_() for name in ("gates", "weight", "h0", "c0"))  # type: ignore[union-attr]
    h, c, hidden, cell, keep = h0, c0, [], [], p["keep"]
    for t in range(len(gates)):
        if t and t % bptt == 0:
            h, c = h.detach(), c.detach()
        if keep is not None:
            h, c = (torch.where(keep[t, :, None] != 0, v, 0.0) for v in (h, c))
        i, f, g, o = (gates[t] + h @ weight.T).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        hidden.append(h)
        cell.append(c)
    upstream = [p[name].to(dtype) for name in ("dy", "dh_n", "dc_n")]  # type: ignore[union-attr]
    loss = (torch.stack(hidden) * upstream[0]).sum() + (h * upstream[1]).sum() + (c * upstream[2]).sum()
    return [torch.stack(hidden).detach(), torch.stack(cell).detach(), *torch.autograd.grad(loss, (gates, h0, c0))]


def error(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want).norm() / want.norm())


def check(p: dict[str, Tensor | None], dtype: torch.dtype, bptt: int = 2**20) -> None:
    truth, same = plain(p, torch.float64, bptt), plain(p, dtype, bptt)
    for name, mine, eager, want in zip(NAMES, kernel(p, bptt), same, truth, strict=True):
        allowed = error(eager, want)
        assert allowed < CAP[dtype], f"plain {name}: {allowed}"
        assert error(mine, want) <= 2 * allowed + FLOOR, f"{name}: {error(mine, want)}, plain {allowed}"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("H", [32, 56, 64, 104, 128, 192, 224, 256, 384, 448, 512, 640, 768])
def test_every_width_matches_float64(H: int, dtype: torch.dtype) -> None:
    for T, B in ((1, 1), (33, 7), (64, 67)):
        check(draw(T, B, H, dtype), dtype)


@pytest.mark.parametrize("H", [64, 256, 512])
def test_large_batches_use_the_wide_tile_and_truncation_holds(H: int) -> None:
    check(draw(16, 1100, H, torch.bfloat16), torch.bfloat16, bptt=5)


def test_saturated_gates_and_a_long_sequence_stay_finite() -> None:
    for T, scale in ((8, 1e3), (4096, 1.0)):
        assert all(found.isfinite().all() for found in kernel(draw(T, 9, 64, torch.bfloat16, scale=scale)))


@pytest.mark.parametrize("H", [64, 256, 512, 768])
def test_two_runs_agree_bit_for_bit(H: int) -> None:
    p = draw(128, 40, H, torch.bfloat16)
    first = kernel(p)
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, kernel(p), strict=True))


@pytest.mark.parametrize("H", [64, 256, 768])
def test_a_graph_repeats_eager_bit_for_bit(H: int) -> None:
    p = draw(32, 24, H, torch.bfloat16)
    eager = kernel(p)  # loads the kernels, too
    torch.use_deterministic_algorithms(False)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = kernel(p)
    for _ in range(10):
        graph.replay()
        assert all(torch.equal(a, b) for a, b in zip(captured, eager, strict=True))


def test_runs_on_two_streams_do_not_wait_for_each_other_for_ever() -> None:
    """Each alone fills the device with clusters; together they must finish all the same."""
    problems = [draw(256, 512, 256, torch.bfloat16) for _ in range(2)]
    alone = [kernel(p) for p in problems]
    torch.cuda.synchronize()
    streams, found = [torch.cuda.Stream() for _ in problems], []
    for _ in range(5):
        found = []
        for p, stream in zip(problems, streams, strict=True):
            with torch.cuda.stream(stream):
                found.append(kernel(p))
    torch.cuda.synchronize()
    for one, other in zip(alone, found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_no_call_waits_for_the_device() -> None:
    p = draw(16, 16, 128, torch.bfloat16)
    kernel(p)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        kernel(p)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_kernel_that_was_not_loaded_is_refused_inside_a_capture() -> None:
    p = draw(2, 2, 384, torch.float16)
    lstm_cluster._load.cache_clear()
    with pytest.raises(RuntimeError, match="before the graph is captured"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        kernel(p)
    assert cuda_build.CAPABILITY == torch.cuda.get_device_capability()
