"""The LSTM kernels against the step-by-step reference in float64: outputs, states and every gradient."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from algoprog.config import LstmConfig
from algoprog.flops.dispatch import ProductCounter
from algoprog.kernels import LSTM, reference, select
from algoprog.kernels.fused import launch, lstm_tile
from algoprog.kernels.fused import lstm as fused
from algoprog.models import build_model

Draw = Callable[..., Tensor]
FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16
KERNELS = ["tile", "group"]


def parts(draw: Draw, B: int, T: int, H: int, dtype: torch.dtype = FP32, inputs: int = 5) -> tuple[Tensor, ...]:
    """x, h, c, W_ih, W_hh, b_ih, b_hh."""
    return (
        draw(B, T, inputs, dtype=dtype),
        draw(1, B, H, dtype=dtype),
        draw(1, B, H, dtype=dtype),
        draw(4 * H, inputs, dtype=dtype, scale=0.5),
        draw(4 * H, H, dtype=dtype, scale=H**-0.5),
        draw(4 * H, dtype=dtype, scale=0.5),
        draw(4 * H, dtype=dtype, scale=0.5),
    )


def layer(function: Callable[..., Any], **options: Any) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """``function`` of :func:`parts` in order, with (y, h_n, c_n) as outputs."""

    def run(
        x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, *biases: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        run.summed_terms = w_h.shape[0]  # type: ignore[attr-defined]  # gradients of x and h are sums over all gates
        y, (h, c) = function(x, (h, c), (w_x, w_h), biases or None, **options)
        return y, h, c

    return run


def masks(names: str, B: int, T: int, device: torch.device) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(B + T)
    made: dict[str, Any] = {}
    if "keep" in names:
        made["keep"] = (torch.rand(B, T, generator=generator) > 0.3).to(device)
    if "lengths" in names:
        made["lengths"] = torch.randint(1, T + 1, (B,), generator=generator).to(device)
    if "bptt" in names:
        made["bptt"] = 3
    return made


@pytest.mark.parametrize(
    ("kernel", "dtype", "B", "T", "H"),
    [
        ("tile", FP32, 9, 6, 32),
        ("tile", FP32, 1, 1, 16),
        ("tile", BF16, 9, 5, 40),
        ("tile", FP16, 8, 5, 64),
        ("tile", FP16, 17, 3, 104),
        ("tile", BF16, 2, 4, 128),
        ("group", FP32, 17, 3, 72),
        ("group", FP32, 1, 1, 136),
        ("group", BF16, 3, 4, 136),
        ("group", FP16, 2, 3, 264),
    ],
)
def test_agrees(
    kernel: str, dtype: torch.dtype, B: int, T: int, H: int, draw: Draw, agree: Callable[..., None]
) -> None:
    agree(layer(fused.lstm, kernel=kernel), layer(reference.lstm_steps), *parts(draw, B, T, H, dtype))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("options", "dtype"),
    [("keep", FP32), ("lengths", FP32), ("bptt", FP16), ("keep lengths bptt", FP32), ("keep bptt", BF16)],
)
def test_resets_lengths_and_truncation(
    kernel: str, options: str, dtype: torch.dtype, draw: Draw, agree: Callable[..., None], device: torch.device
) -> None:
    given = masks(options, 5, 7, device)
    agree(
        layer(fused.lstm, kernel=kernel, **given), layer(reference.lstm_steps, **given), *parts(draw, 5, 7, 24, dtype)
    )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("layout", ["misaligned", "transposed"])
def test_layouts_and_no_biases(kernel: str, layout: str, draw: Draw, agree: Callable[..., None]) -> None:
    x, _, _, w_x, w_h, *_ = parts(draw, 3, 4, 24)
    h, c = (draw(1, 3, 24, layout=layout) for _ in range(2))
    w_h = draw(96, 24, layout=layout, scale=0.2)
    agree(layer(fused.lstm, kernel=kernel), layer(reference.lstm_steps), draw(3, 4, 5, layout=layout), h, c, w_x, w_h)


@pytest.mark.parametrize("kernel", KERNELS)
def test_small_scale_of_initialisation(kernel: str, draw: Draw, agree: Callable[..., None]) -> None:
    """Gates near 0, where a careless tanh loses its digits."""
    x, h, c, w_x, w_h, *_ = parts(draw, 3, 4, 24)
    small = [draw(*p.shape, scale=0.02) for p in (x, h, c, w_x, w_h)]
    agree(layer(fused.lstm, kernel=kernel), layer(reference.lstm_steps), *small)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
def test_saturated_gates_stay_finite(kernel: str, dtype: torch.dtype, draw: Draw) -> None:
    x, h, c, w_x, w_h, *biases = parts(draw, 3, 6, 24, dtype, inputs=4)
    with torch.no_grad():
        x.sign_().mul_(1e3)
        w_x.sign_()
    run = layer(fused.lstm, kernel=kernel)
    outputs = run(x, h, c, w_x, w_h, *biases)
    leaves = (x, h, c, w_x, w_h, *biases)
    gradients = torch.autograd.grad([o.float().square().sum() for o in outputs], leaves)
    assert all(t.isfinite().all() for t in (*outputs, *gradients))
    exact = layer(reference.lstm_steps)(*(leaf.detach().double() for leaf in leaves))
    for ours, truth in zip(outputs, exact, strict=True):
        assert (ours.double() - truth).norm() <= 0.01 * truth.norm()


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("dtype", "T", "bound"),  # what was measured here over 4096 steps: 1e-7 in fp32, 3e-3 in bf16
    [(FP32, 128, 5e-7), pytest.param(FP32, 4096, 5e-7, marks=SLOW), pytest.param(BF16, 4096, 8e-3, marks=SLOW)],
)
def test_drift_over_a_long_sequence_is_bounded(dtype: torch.dtype, T: int, bound: float, draw: Draw) -> None:
    """The trajectories of h and c from the same weights and inputs, against float64; the gates contract, so errors fade."""
    args = parts(draw, 2, T, 8, dtype)
    with torch.no_grad():
        y, _, c = layer(fused.lstm, kernel="tile")(*args)
        truth, _, c_truth = layer(reference.lstm_steps)(*(a.double() for a in args))
    for ours, wanted in ((y, truth), (y[:, -64:], truth[:, -64:]), (c, c_truth)):
        drift = ((ours.double() - wanted).norm() / wanted.norm()).item()
        print(f"{dtype}: {drift:.1e}")
        assert drift <= bound


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("T", [64, 1024])
def test_gradients_over_many_steps(kernel: str, T: int, draw: Draw, agree: Callable[..., None]) -> None:
    agree(layer(fused.lstm, kernel=kernel), layer(reference.lstm_steps), *parts(draw, 2, T, 8))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [FP32, FP16])
def test_carried_state_equals_one_long_window_bit_for_bit(kernel: str, dtype: torch.dtype, draw: Draw) -> None:
    x, h, c, *weights = (a.detach() for a in parts(draw, 3, 7, 24, dtype))
    run = layer(fused.lstm, kernel=kernel)
    whole, h_whole, c_whole = run(x, h, c, *weights)
    first, h, c = run(x[:, :4], h, c, *weights)
    assert c.dtype == FP32
    second, h, c = run(x[:, 4:], h, c, *weights)
    assert torch.equal(whole, torch.cat((first, second), 1))
    assert torch.equal(h, h_whole) and torch.equal(c, c_whole)


@pytest.mark.parametrize("kernel", KERNELS)
def test_results_repeat_bit_for_bit(kernel: str, draw: Draw, device: torch.device) -> None:
    args = parts(draw, 3, 5, 24)
    found = []
    for _ in range(2):
        outputs = layer(fused.lstm, kernel=kernel, **masks("keep bptt", 3, 5, device))(*args)
        found.append((*outputs, *torch.autograd.grad([o.sum() for o in outputs], args)))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_truncated_gradient_is_that_of_the_windows(kernel: str, draw: Draw) -> None:
    x, h, c, *weights = parts(draw, 3, 8, 24)
    run = layer(fused.lstm, kernel=kernel)
    whole = layer(fused.lstm, kernel=kernel, bptt=3)(x, h, c, *weights)[0]
    pieces, state = [], (h, c)
    for window in torch.split(x, 3, dim=1):
        y, *state = run(window, *state, *weights)
        state = [part.detach() for part in state]
        pieces.append(y)
    up = torch.randn_like(whole)
    one = torch.autograd.grad(whole, (x, h, c, *weights), up)
    many = torch.autograd.grad(torch.cat(pieces, 1), (x, h, c, *weights), up)
    assert torch.equal(whole, torch.cat(pieces, 1))
    torch.testing.assert_close(one, many, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_lies_beyond_a_sequence_does_not_matter(kernel: str, draw: Draw, device: torch.device) -> None:
    x, h, c, *weights = parts(draw, 3, 5, 24)
    lengths = torch.tensor([5, 2, 4], device=device)
    found = []
    for filler in (0.0, float("nan")):
        with torch.no_grad():
            for b, n in enumerate(lengths.tolist()):
                x[b, n:] = filler
        y, h_n, c_n = layer(fused.lstm, kernel=kernel, lengths=lengths)(x, h, c, *weights)
        found.append((y, h_n, c_n, *torch.autograd.grad([y.sum() + h_n.sum() + c_n.sum()], (x, h, c, *weights))))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert (found[0][0][1, 2:] == 0).all() and torch.equal(found[0][0][1, 1], found[0][1][0, 1])


@pytest.mark.parametrize("kernel", KERNELS)
def test_each_output_alone_has_its_gradient(kernel: str, draw: Draw) -> None:
    args = parts(draw, 2, 3, 24)
    exact = tuple(a.detach().double().requires_grad_() for a in args)
    for i in range(3):
        ours = torch.autograd.grad(layer(fused.lstm, kernel=kernel)(*args)[i].sum(), args)
        truth = torch.autograd.grad(layer(reference.lstm_steps)(*exact)[i].sum(), exact)
        for a, b in zip(ours, truth, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-6)


WIDTHS = [1, 7, 48, 120, 136, 264]
if os.environ.get("ALGOPROG_TEST_WIDTHS") == "all":
    WIDTHS = [*range(1, 33), *range(40, 1025, 8)]


@pytest.mark.parametrize("H", WIDTHS)
def test_widths(H: int, draw: Draw, agree: Callable[..., None]) -> None:
    """Some in every run, all when ``test_lstm_widths.py`` asks. Few units need many rows, or chance decides the rule of two."""
    B, T = (24, 6) if H < 32 else (2, 2) if H <= 256 else (1, 1)
    agree(layer(fused.lstm), layer(reference.lstm_steps), *parts(draw, B, T, H, FP16, inputs=3))


def test_widths_go_to_the_kernel_that_holds_them() -> None:
    assert [fused.kernel_for(H, BF16) for H in (8, 128, 136, 1024)] == ["tile", "tile", "group", "group"]
    assert [fused.kernel_for(H, FP32) for H in (64, 72)] == ["tile", "group"]
    assert fused.why_not("tile", 136, BF16) == "it serves torch.bfloat16 up to width 128"


def test_differentiating_twice_raises(draw: Draw) -> None:
    args = parts(draw, 2, 3, 8)
    (gradient,) = torch.autograd.grad(layer(fused.lstm)(*args)[0].square().sum(), args[0], create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(gradient.sum(), args[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": (2, 0, 5)}, r"lstm: x: expected shape \[B, T, I\] with at least one of each, got \(2, 0, 5\)"),
        ({"h": (1, 3, 8)}, r"lstm: h: expected shape \(1, 2, 8\), got \(1, 3, 8\)"),
        ({"w_h": (24, 8)}, r"lstm: recurrent weight: expected shape \(32, 8\), got \(24, 8\)"),
        ({"w_x": (32, 4)}, r"lstm: input weight: expected shape \(32, 5\), got \(32, 4\)"),
        ({"keep": torch.ones(3, 2, dtype=torch.bool)}, r"lstm: keep: expected (shape|a tensor on)"),
        ({"keep": torch.ones(2, 3)}, "lstm: keep: expected (a bool|a tensor on)"),
        ({"lengths": torch.ones(2)}, "lstm: lengths: expected an integer tensor, got torch.float32"),
        ({"bptt": 0}, "lstm: bptt: expected a number of steps, at least 1, got 0"),
        ({"kernel": "fast"}, "lstm: kernel: expected auto, tile, group, cluster, got 'fast'"),
        ({"dtype": torch.float64}, "lstm: x: expected a float32, bfloat16 or float16 tensor, got torch.float64"),
    ],
)
def test_bad_arguments_name_themselves(change: dict[str, Any], message: str, draw: Draw) -> None:
    shapes = {"x": (2, 3, 5), "h": (1, 2, 8), "c": (1, 2, 8), "w_x": (32, 5), "w_h": (32, 8)} | change
    x, h, c, w_x, w_h = (draw(*shapes[name]) for name in ("x", "h", "c", "w_x", "w_h"))
    options = {name: change[name] for name in ("keep", "lengths", "bptt", "kernel") if name in change}
    with pytest.raises(ValueError, match=message):
        fused.lstm(x.to(change.get("dtype", FP32)), (h, c), (w_x, w_h), None, **options)


def test_too_wide_is_refused(draw: Draw) -> None:
    with pytest.raises(ValueError, match="lstm: weights: expected 1 to 1024 hidden units, got 1032"):
        fused.lstm(draw(1, 1, 2), (draw(1, 1, 1032), draw(1, 1, 1032)), (draw(4128, 2), draw(4128, 1032)), None)
    with pytest.raises(
        ValueError, match="one that can serve width 72, got tile: it serves torch.float32 up to width 64"
    ):
        fused.lstm(draw(1, 1, 2), (draw(1, 1, 72), draw(1, 1, 72)), (draw(288, 2), draw(288, 72)), None, kernel="tile")


@pytest.mark.parametrize("depth", [1, 2])
def test_every_flop_is_counted(depth: int, device: torch.device) -> None:
    config = LstmConfig.model_validate({"width": 8, "depth": depth, "vocab": 11, "context": 6, "bptt": 3})
    model = build_model(config, 0, operations=select("fused", device, FP32)).to(device)
    tokens = torch.zeros(2, 6, dtype=torch.int64, device=device)
    with ProductCounter(model) as counter:
        model(tokens, tokens)[0].backward()
    truth = model.flops(6)
    assert counter.count().forward["recurrent"] == 2 * truth.forward["recurrent"]
    assert counter.count().backward["recurrent"] == 2 * truth.backward["recurrent"]
    with FlopCounterMode(display=False) as pytorch:
        model(tokens, tokens)[0].backward()
    counted = counter.count()
    assert pytorch.get_total_flops() == sum(counted.forward.values()) + sum(counted.backward.values())


@pytest.mark.parametrize("kernel", ["tile", pytest.param("group", marks=SLOW)])
def test_the_module_compiles_without_graph_breaks(kernel: str, draw: Draw, device: torch.device) -> None:
    torch._dynamo.reset()
    eager = LSTM(5, 8, num_layers=2, kernel=kernel, bptt=3).to(device)
    compiled = torch.compile(eager, fullgraph=True, backend="aot_eager")
    x, found = draw(4, 2, 5), []
    keep = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1]], dtype=torch.uint8, device=device)
    for module in (eager, compiled):
        y, (h, c) = module(x, keep=keep)
        found.append((y, h, c, *torch.autograd.grad(y.square().sum() + c.sum(), (x, *eager.parameters()))))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)


def test_the_module_equals_pytorchs(draw: Draw, device: torch.device) -> None:
    theirs = torch.nn.LSTM(5, 24, num_layers=2)
    ours = LSTM(5, 24, num_layers=2, kernel="tile")
    ours.load_state_dict(theirs.state_dict())
    x = draw(4, 3, 5).detach()
    torch.testing.assert_close(ours.to(device)(x), theirs.to(device)(x), rtol=1e-5, atol=1e-6)


def test_more_than_two_to_the_31_elements(only_program: Callable[[int], None]) -> None:
    H, T = 64, 2
    B = 2**31 // (4 * H) + 8  # one step of the gates is more than 2^31 elements, and there are two
    gates, h0, c0 = torch.empty(T, B, 4 * H, dtype=FP16), torch.empty(B, H, dtype=FP16), torch.empty(B, H)
    weight = (torch.randn(4 * H, H) * 0.1).to(FP16)
    end = slice(B - 8, B)
    for tensor in (gates[:, end], h0[end], c0[end]):
        tensor.copy_(torch.randn(tensor.shape))
    only_program(launch.ceil_div(B, lstm_tile.SEQUENCES) - 1)
    hidden, cell = lstm_tile.forward(gates, weight, h0, c0, None)
    identity = torch.eye(4 * H)
    y, (_, c) = reference.lstm_steps(
        gates[:, end].transpose(0, 1).float(), (h0[end][None].float(), c0[end][None]), (identity, weight.float()), None
    )
    torch.testing.assert_close(hidden[:, end].float(), y.transpose(0, 1), rtol=2e-2, atol=2e-3)
    torch.testing.assert_close(cell[-1, end], c[0], rtol=2e-2, atol=2e-3)


def test_one_launch_each_way(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole sequence is one launch forward and one backward, whatever its length."""
    calls: list[str] = []
    for name in ("tile_forward", "tile_backward"):
        kernel = getattr(lstm_tile, name)
        watched = functools.partial(_Counted, kernel, calls, name)
        monkeypatch.setattr(lstm_tile, name, watched())
    args = parts(draw, 2, 9, 8)
    layer(fused.lstm, bptt=2)(*args)[0].sum().backward()
    assert calls == ["tile_forward", "tile_backward"]


class _Counted:
    def __init__(self, kernel: Any, calls: list[str], name: str) -> None:
        self.kernel, self.calls, self.name = kernel, calls, name

    def __getitem__(self, grid: Any) -> Any:
        self.calls.append(self.name)
        return self.kernel[grid]
