"""Who computes attention, and that it is attention. The libraries of a GPU are stood in for where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from algoprog.kernels import dispatch, reference, select
from algoprog.kernels.fused import attention

Draw = Callable[..., Tensor]
GPU = torch.device("cuda")
HALF, FULL = torch.bfloat16, torch.float32


@pytest.fixture(autouse=True)
def fresh_choices(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.use_deterministic_algorithms(False)
    monkeypatch.delenv("ALGOPROG_ATTENTION", raising=False)
    caches = attention._choose, attention.flash_attn
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[SDPBackend]]:
    """``pretend(capability, flash=, cudnn=)``: a GPU of that kind. Returns the backends that are then asked for."""
    asked: list[SDPBackend] = []

    class Asked:
        def __init__(self, backend: SDPBackend) -> None:
            asked.append(backend)

        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    def set_up(capability: tuple[int, int], flash: Any = None, cudnn: bool = True) -> list[SDPBackend]:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: cudnn)
        about = "flash_attn is not installed" if flash is None else f"flash-attn {flash.__version__}"
        monkeypatch.setattr(attention, "flash_attn", lambda: (flash, about))
        monkeypatch.setattr(attention, "sdpa_kernel", Asked)
        return asked

    return set_up


def flash_that_records(calls: list[dict[str, Any]]) -> SimpleNamespace:
    """flash-attn's signature and layout [B, T, H, K] over the reference."""

    def flash_attn_func(q: Tensor, k: Tensor, v: Tensor, **how: Any) -> Tensor:
        calls.append(how)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        out = nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=how["causal"], scale=how["softmax_scale"], enable_gqa=True
        )
        return out.transpose(1, 2)

    return SimpleNamespace(__version__="2.8.3", flash_attn_func=flash_attn_func)


@pytest.mark.parametrize(
    ("capability", "dtype", "head_dim", "flash", "cudnn", "deterministic", "backend"),
    [
        ((9, 0), HALF, 64, True, True, False, "flash-attn"),
        ((9, 0), HALF, 64, False, True, False, "cudnn"),
        ((9, 0), HALF, 64, False, False, False, "flash"),
        ((9, 0), HALF, 64, False, True, True, "flash"),
        ((8, 0), HALF, 64, False, True, False, "flash"),
        ((9, 0), HALF, 192, False, True, False, "flash"),
        ((9, 0), HALF, 512, True, True, False, "efficient"),
        ((9, 0), FULL, 64, True, True, False, "efficient"),
        ((7, 5), HALF, 64, True, True, False, "math"),
    ],
)
def test_the_choice_on_a_gpu(
    capability: Any,
    dtype: Any,
    head_dim: int,
    flash: bool,
    cudnn: bool,
    deterministic: bool,
    backend: str,
    pretend: Any,
) -> None:
    pretend(capability, flash_that_records([]) if flash else None, cudnn)
    choice = attention._choose(GPU, dtype, head_dim, "auto", deterministic)
    assert choice.backend == backend
    assert ("not flash-attn" in choice.reason) == (backend != "flash-attn")
    assert backend != "flash-attn" or choice.reason.startswith("flash-attn 2.8.3")


def test_a_name_in_the_environment_rules_and_one_that_cannot_serve_raises(
    pretend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend((9, 0))
    monkeypatch.setenv("ALGOPROG_ATTENTION", "flash")
    assert attention.choose(GPU, HALF, 64) == attention.Choice("flash", "ALGOPROG_ATTENTION=flash", 8)
    for name, dtype, message in (
        ("flash-attn", HALF, "got 'flash-attn': flash_attn is not installed"),
        ("cudnn", FULL, "got 'cudnn': torch.float32 is neither bfloat16 nor float16"),
        ("fastest", HALF, "expected auto, flash-attn, cudnn, flash, efficient, math, got 'fastest'"),
    ):
        monkeypatch.setenv("ALGOPROG_ATTENTION", name)
        with pytest.raises(ValueError, match=message):
            attention.choose(GPU, dtype, 64)
    with pytest.raises(dispatch.Unavailable, match="ALGOPROG_ATTENTION: expected auto"):
        dispatch.choose("auto", GPU, HALF)


def test_the_dispatch_table_says_who_computes_attention(pretend: Any) -> None:
    pretend((9, 0))
    reasons = {choice.op: choice.reason for choice in dispatch.choose("auto", GPU, HALF)}
    assert reasons["causal_attention"] == (
        "usable: cudnn, heads of 64 (not flash-attn: flash_attn is not installed)"
    )  # fmt: skip
    assert reasons["rope"] == "usable"


@pytest.mark.parametrize("flash", [False, True])
@pytest.mark.parametrize("head_dim", [16, 24, 33, 64, 96, 128])
def test_every_path_computes_attention(
    head_dim: int, flash: bool, draw: Draw, agree: Any, pretend: Any, device: torch.device, monkeypatch: Any
) -> None:
    """Padding, layouts and grouped heads, with each library replaced by PyTorch's own kernel on this device."""
    calls: list[dict[str, Any]] = []
    asked = pretend((9, 0), flash_that_records(calls) if flash else None)
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(attention, "choose", lambda d, t, width: attention._choose(GPU, t, width, "auto", False))
        q, k, v = (draw(2, 4, 9, head_dim, dtype=dtype) for _ in range(3))
        agree(attention.causal_attention, reference.causal_attention, q, k, v)
    assert calls or asked
    assert not calls or calls[0] == {"softmax_scale": head_dim**-0.5, "causal": True, "deterministic": False}
    expected = (
        {SDPBackend.EFFICIENT_ATTENTION} if flash else {SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION}
    )
    assert set(asked) == expected


def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return reference.causal_attention(q, *(x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grouped_heads_and_this_device(dtype: torch.dtype, draw: Draw, agree: Any, device: torch.device) -> None:
    q, k, v = draw(2, 4, 130, 32, dtype=dtype), *(draw(2, 2, 130, 32, dtype=dtype) for _ in range(2))
    agree(attention.causal_attention, grouped, q, k, v)
    q, k, v = (draw(1, 2, 1, 16, dtype=dtype).detach() for _ in range(3))
    assert torch.equal(attention.causal_attention(q, k, v), v)  # one position sees itself alone


@pytest.mark.parametrize("layout", ["misaligned", "transposed", "expanded"])
def test_layouts(layout: str, draw: Draw, agree: Any) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        agree(
            attention.causal_attention,
            reference.causal_attention,
            *(draw(2, 3, 9, 24, dtype=dtype, layout=layout) for _ in range(3)),
        )


def test_no_rows(draw: Draw) -> None:
    for shape in ((0, 2, 5, 8), (2, 2, 0, 8)):
        q, k, v = (draw(*shape) for _ in range(3))
        out = attention.causal_attention(q, k, v)
        assert out.shape == shape
        out.sum().backward()
        assert all(x.grad.shape == shape for x in (q, k, v))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_graph_breaks(dynamic: bool, draw: Draw) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(attention.causal_attention, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for T in (6, 9):
        q, k, v = (draw(2, 3, T, 16) for _ in range(3))
        torch.testing.assert_close(compiled(q, k, v), attention.causal_attention(q, k, v))


def test_a_flash_attn_that_does_not_import_is_a_reason_and_not_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise ImportError("undefined symbol: _ZN3c105Error\nmore")

    monkeypatch.setattr(attention.importlib, "import_module", broken)
    assert attention.flash_attn() == (None, "flash-attn does not import: ImportError: undefined symbol: _ZN3c105Error")


def test_counters_see_flash_attn(monkeypatch: pytest.MonkeyPatch, draw: Draw, device: torch.device) -> None:
    library = torch.library.Library("flash_attn", "FRAGMENT")
    library.define("_flash_attn_forward(Tensor q, Tensor k, Tensor v, float p, float scale, bool causal) -> Tensor")
    library.define("_flash_attn_backward(Tensor dout, Tensor q, Tensor k, Tensor v, bool causal) -> Tensor")
    for name in ("_flash_attn_forward", "_flash_attn_backward"):
        library.impl(name, lambda q, *_: q.clone(), "CompositeExplicitAutograd")
    before = dict(flop_registry)
    attention._register_formulas()
    try:
        q, k = draw(2, 8, 4, 16).detach(), draw(2, 8, 2, 16).detach()
        with FlopCounterMode(display=False) as counter:
            torch.ops.flash_attn._flash_attn_forward(q, k, k, 0.0, 0.25, True)
        assert counter.get_total_flops() == 4 * 2 * 4 * 16 * 36
        with FlopCounterMode(display=False) as counter:
            torch.ops.flash_attn._flash_attn_backward(q, q, k, k, True)
        assert counter.get_total_flops() == 8 * 2 * 4 * 16 * 36
        attention._register_formulas()  # a second time changes nothing
    finally:
        flop_registry.clear()
        flop_registry.update(before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, k, v: (q[0], k, v), "q: expected shape .B, H, T, K."),
        (lambda q, k, v: (q, k[:, :, :3], v), "k: expected q's shape"),
        (lambda q, k, v: (q, k[:, :3], v[:, :3]), "k: expected q's shape"),
        (lambda q, k, v: (q, k, v[..., :8]), "v: expected k's shape"),
        (lambda q, k, v: (q, k, v.half()), "v: expected a torch.float32 tensor, got torch.float16"),
        (lambda q, k, v: (q, k.to("meta"), v), "k: expected a tensor on"),
    ],
)
def test_bad_arguments_are_named(change: Any, message: str, draw: Draw) -> None:
    with pytest.raises(ValueError, match=f"causal_attention: {message}"):
        attention.causal_attention(*change(*(draw(2, 4, 5, 16).detach() for _ in range(3))))


def test_models_get_it_from_the_dispatch(device: torch.device) -> None:
    assert select("fused", device, torch.float32).causal_attention is attention.causal_attention
