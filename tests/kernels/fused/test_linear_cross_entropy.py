"""The vocabulary head, both methods. The flash kernels also run in fp32 here, where errors show that bf16 would cover."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from algoprog.kernels import REFERENCE, reference, select
from algoprog.kernels.dispatch import head_kind
from algoprog.kernels.fused import head_chunked, head_flash, launch
from algoprog.kernels.fused import linear_cross_entropy as home
from algoprog.kernels.fused.linear_cross_entropy import linear_cross_entropy

Draw = Callable[..., Tensor]
METHODS = ["flash", "chunked"]
FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16

# fp32: the log-sum-exp is kept as one number of about 16, eager PyTorch keeps log-probabilities; two of its roundings are
# the error of a logarithm. Else: a tenth of one rounding of the output.
FLOOR = {FP32: 2.0**-23 * 16 * 2, BF16: 4e-4, FP16: 5e-5}
CAP = {FP32: 1e-5, BF16: 0.02, FP16: 0.005}


def targets(draw: Draw, rows: int, vocab: int) -> Tensor:
    return (draw(rows).detach().abs() * 1e5).long() % vocab


def per_token(method: str) -> Callable[..., Tensor]:
    """The operator without the choice of a method by type."""
    return lambda x, w, b, t, ignore=-100: torch.ops.algoprog.linear_cross_entropy(x, w, b, t, ignore, method)[0]


def eager(x: Tensor, w: Tensor, b: Tensor | None, t: Tensor, ignore: int = -100) -> Tensor:
    return reference.linear_cross_entropy(x, w, b, t, ignore_index=ignore, reduction="none")


def results(loss: Callable[..., Tensor], leaves: list[Tensor | None], target: Tensor, upstream: Tensor) -> list[Tensor]:
    leaves = [None if a is None else a.detach().clone().requires_grad_() for a in leaves]
    out = loss(*leaves, target)
    out.backward(upstream.to(out.dtype))
    return [out.detach().double(), *(a.grad.double() for a in leaves if a is not None)]


def agree(
    loss: Callable[..., Tensor], x: Tensor, w: Tensor, b: Tensor | None, target: Tensor, upstream: Tensor,
    floor: float | None = None, cap: float | None = None, plain: Callable[..., Tensor] = eager,
) -> None:  # fmt: skip
    """Loss and gradients: at most twice the error of eager PyTorch in the same type, plus the floor."""
    inputs = [x, w, b]
    got, same = results(loss, inputs, target, upstream), results(plain, inputs, target, upstream)
    exact = results(plain, [None if a is None else a.double() for a in inputs], target, upstream)
    for name, ours, theirs, truth in zip(("loss", "dx", "dweight", "dbias"), got, same, exact, strict=False):
        assert not ours.isnan().any(), name
        error, allowed = ((v - truth).norm() / truth.norm() for v in (ours, theirs))
        assert allowed <= (cap or CAP[x.dtype]), f"{name}: the eager reference is off by {allowed:.1e}"
        assert error <= 2 * allowed + (floor or FLOOR[x.dtype]), f"{name}: error {error:.2e}, eager {allowed:.2e}"


def case(
    draw: Draw, rows: int, vocab: int, width: int, dtype: torch.dtype, bias: bool = True, **how: Any
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    """x, weight, bias, targets of which every fifth is ignored, upstream gradients of both signs."""
    x, w = draw(rows, width, dtype=dtype, **how), draw(vocab, width, dtype=dtype, scale=0.5)
    target = targets(draw, rows, vocab)
    target[3::5] = -100
    return x, w, draw(vocab) if bias else None, target, draw(rows, scale=1 / rows).detach()


@pytest.mark.parametrize("dtype", [FP32, BF16, pytest.param(FP16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", METHODS)
def test_accuracy(method: str, dtype: torch.dtype, draw: Draw) -> None:
    for rows, vocab, width, bias in (
        (127, 259, 33, True), (129, 301, 48, False), (70, 1000, 104, True), (128, 300, 160, False), (64, 128, 32, True),
        (1, 257, 8, True),
    ):  # fmt: skip
        # One token has one rounding of its logit, which eager may escape by luck: half a unit in the last place.
        floor = max(FLOOR[dtype], torch.finfo(dtype).eps / 2) if rows == 1 else None
        agree(per_token(method), *case(draw, rows, vocab, width, dtype, bias), floor=floor)


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_wide_rows(dtype: torch.dtype, draw: Draw) -> None:
    agree(per_token("flash"), *case(draw, 40, 300, 256, dtype, scale=0.5))
    agree(per_token("chunked"), *case(draw, 40, 300, 448, dtype, scale=0.4))
    agree(per_token("chunked"), *case(draw, 5, 70, 8192, dtype, scale=0.1))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.02, 3.0])
@pytest.mark.parametrize("method", METHODS)
def test_small_and_large_values(method: str, scale: float, draw: Draw) -> None:
    # At scale 3 logits reach 50: eager rounds them to bf16, which is far from exact.
    agree(per_token(method), *case(draw, 150, 300, 32, BF16, False, scale=scale), cap=0.3)
    agree(per_token(method), *case(draw, 150, 300, 32, FP32, scale=scale))


@pytest.mark.parametrize("dtype", [FP32, BF16, pytest.param(FP16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", METHODS)
def test_well_predicted_tokens(method: str, dtype: torch.dtype, draw: Draw) -> None:
    """Where p is nearly 1 the gradient is p - 1, which must not drown in the rounding of p."""
    for strength in (1.0, 2.0):
        x, w, _, target, upstream = case(draw, 130, 300, 48, dtype, False)
        x = (x.detach() + strength * w.detach()[target.clamp_min(0)]).requires_grad_()
        smallest = eager(x.double(), w.double(), None, target).detach()
        typical = smallest[target >= 0].mean().item()
        agree(per_token(method), x, w, None, target, upstream, FLOOR[dtype] * max(1.0, 1 / typical), cap=0.2)


def test_a_width_that_nobody_chose(draw: Draw, any_width: int) -> None:
    agree(per_token("chunked"), *case(draw, 20, 70, any_width, BF16, scale=any_width**-0.5))
    agree(per_token("flash"), *case(draw, 20, 70, min(any_width, 256), BF16, scale=0.1))


@pytest.mark.slow  # ten seconds in the interpreter; a tile beyond the end of a vocabulary is in the tests of shapes, too
@pytest.mark.parametrize("method", METHODS)
def test_the_vocabulary_of_gpt2(method: str, draw: Draw) -> None:
    agree(per_token(method), *case(draw, 3, 50257, 16, FP32))


@pytest.mark.parametrize("method", METHODS)
def test_tiny_vocabularies(method: str, draw: Draw) -> None:
    for vocab, dtype in itertools.product((2, 3, 65), (FP32, BF16)):
        # Two logits have gradients that cancel in a bias, to the last bits in bf16.
        floor = 8e-6 if dtype == FP32 else 2e-3
        agree(per_token(method), *case(draw, 70, vocab, 12, dtype, bias=dtype == FP32), floor=floor)
    x, w, b, target, _ = case(draw, 20, 1, 12, BF16)
    assert per_token(method)(x, w, b, target).abs().max() < 2.0**-20


@pytest.mark.slow
def test_several_chunks_and_several_slices(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_chunked, "CHUNK_BYTES", 64 * 320 * 4)
    for programs, rows, vocab in ((1, 129, 300), (6, 300, 259), (40, 1, 1000), (40, 128, 520)):
        monkeypatch.setattr(launch, "PROGRAMS", programs)
        arguments = case(draw, rows, vocab, 24, FP32)
        agree(per_token("flash"), *arguments)
        agree(per_token("chunked"), *arguments)


def test_chunks_fit_the_cache_at_any_vocabulary() -> None:
    for dtype, rows in ((BF16, 256), (FP32, 128)):
        assert head_chunked._workspace(torch.empty(9000, 1, dtype=dtype), 50257).shape == (rows, 50304)
    assert head_chunked._workspace(torch.empty(9000, 1), 2).shape == (9000, 64)
    assert head_chunked._workspace(torch.empty(9000, 1, dtype=BF16), 300_000).shape[0] == 64


@pytest.mark.parametrize("reduction", ["sum", "mean", "none"])
@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_reductions_and_ignore_index(reduction: str, dtype: torch.dtype, draw: Draw) -> None:
    x, w, b, target, upstream = case(draw, 60, 40, 24, dtype)
    target[target == -100] = 7
    upstream = upstream if reduction == "none" else upstream[0]
    how = {"reduction": reduction, "ignore_index": 7}
    assert linear_cross_entropy(x, w, b, target, **how).dtype == FP32
    agree(lambda *a: linear_cross_entropy(*a, **how), x, w, b if dtype == BF16 else None, target, upstream,
          plain=lambda *a: reference.linear_cross_entropy(*a, **how))  # fmt: skip


@pytest.mark.parametrize("layout", ["misaligned", "transposed", "expanded"])
def test_layouts(layout: str, draw: Draw) -> None:
    for dtype, method in ((BF16, "flash"), (FP32, "chunked")):
        x, w, b, target, upstream = case(draw, 33, 200, 48, dtype, layout=layout)
        w = draw(200, 48, dtype=dtype, layout="misaligned" if layout == "expanded" else layout, scale=0.5)
        striped = torch.stack((target, target), 1)[:, 0]
        got = per_token(method)(x, w, b, striped)
        assert torch.equal(got, per_token(method)(x.contiguous(), w.contiguous(), b, target))
        got.backward(upstream[:, None].expand(-1, 2)[:, 1])
        again = [a.detach().clone().requires_grad_() for a in (x, w, b)]
        per_token(method)(*again, target).backward(upstream)
        for ours, theirs in zip((x, w, b), again, strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_no_rows_and_only_ignored_rows(method: str, draw: Draw) -> None:
    for rows in (0, 9):
        x, w, b = draw(rows, 16, dtype=BF16), draw(40, 16), draw(40)
        target = torch.full((rows,), -100, device=x.device)
        loss = linear_cross_entropy(x, w, b, target, method=method)
        loss.backward()
        assert loss.item() == 0
        assert all(torch.equal(a.grad, torch.zeros_like(a)) for a in (x, w, b))
        assert linear_cross_entropy(x, w, b, target, method=method, reduction="mean").isnan()  # as in PyTorch


@pytest.mark.parametrize("method", METHODS)
def test_a_target_outside_the_vocabulary_shows(method: str, draw: Draw) -> None:
    for outside in (40, -1, 2**40):
        x, w, b, target, upstream = case(draw, 30, 40, 16, BF16)
        clean = per_token(method)(x, w, b, target)
        target[11] = outside
        loss = per_token(method)(x, w, b, target)
        assert loss.isnan().nonzero().tolist() == [[11]]
        others = torch.arange(30, device=x.device) != 11
        assert torch.equal(loss[others], clean[others])
        loss.backward(upstream)
        assert x.grad[11].isnan().all() and not x.grad[others].isnan().any() and w.grad.isnan().any()


def test_fp32_parameters_under_bf16_activations(draw: Draw) -> None:
    """Their gradient is summed in fp32 and never rounded to bf16: closer to exact than any bf16 number can be."""
    for method in METHODS:
        x, w, b = draw(300, 16, dtype=BF16), draw(50, 16, scale=0.5), draw(50)
        with torch.no_grad():
            w.copy_(w.bfloat16())
        target = targets(draw, 300, 50)
        linear_cross_entropy(x, w, b, target, method=method).backward()
        assert (x.grad.dtype, w.grad.dtype, b.grad.dtype) == (BF16, FP32, FP32)
        assert not torch.equal(w.grad, w.grad.bfloat16().float())
        xx, ww, bb = (a.detach().double().requires_grad_() for a in (x, w, b))
        reference.linear_cross_entropy(xx, ww, bb, target).backward()
        rounding = (ww.grad.bfloat16().double() - ww.grad).norm()
        assert method == "chunked" or (w.grad.double() - ww.grad).norm() < 2 * rounding


def test_a_tied_table_gets_both_gradients(draw: Draw, device: torch.device) -> None:
    tokens = torch.arange(40, device=device) * 7 % 30
    table, bias = draw(30, 24, scale=0.5), draw(30)
    for dtype, tolerance in ((FP32, 1e-5), (BF16, 1e-2)):
        gradients = []
        for head, kind in ((linear_cross_entropy, dtype), (reference.linear_cross_entropy, torch.float64)):
            t = table.detach().to(kind if kind == torch.float64 else FP32).requires_grad_()
            head(torch.tanh(t.to(kind)[tokens]), t, bias.to(t.dtype), tokens.roll(-1)).backward()
            gradients.append(t.grad.double())
        assert (gradients[0] - gradients[1]).norm() < tolerance * gradients[1].norm()


@pytest.mark.parametrize("method", METHODS)
def test_equal_bit_for_bit_when_repeated_and_inputs_untouched(method: str, draw: Draw) -> None:
    x, w, b, target, upstream = case(draw, 140, 259, 40, BF16)
    before = [a.detach().clone() for a in (x, w, b, target, upstream)]
    runs = [results(per_token(method), [x, w, b], target, upstream) for _ in range(2)]
    assert all(torch.equal(a, c) for a, c in zip(*runs, strict=True))
    saved = per_token(method)(x, w, b, target)
    first = torch.autograd.grad(saved, (x, w, b), upstream, retain_graph=True)
    second = torch.autograd.grad(saved, (x, w, b), upstream)
    assert all(torch.equal(a, c) for a, c in zip(first, second, strict=True))
    assert all(torch.equal(a, c.detach()) for a, c in zip(before, (x, w, b, target, upstream), strict=True))


def test_double_backward_raises(draw: Draw) -> None:
    x, w, b, target, _ = case(draw, 9, 40, 16, BF16)
    (dx,) = torch.autograd.grad(linear_cross_entropy(x, w, b, target).square(), x, create_graph=True)
    with pytest.raises(RuntimeError):
        dx.sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": (4, 3, 16)}, r"hidden: expected shape \(tokens, width\), got \(4, 3, 16\)"),
        ({"hidden": (4, 8193)}, r"hidden: expected a width of 1 to 8192, got \(4, 8193\)"),
        ({"weight": (30, 17)}, r"weight: expected shape \(vocabulary, 16\), got \(30, 17\)"),
        ({"weight": (30,)}, r"weight: expected shape \(vocabulary, 16\), got \(30,\)"),
        ({"bias": (29,)}, r"bias: expected shape \(30,\), got \(29,\)"),
        ({"target": (5,)}, r"target: expected shape \(4,\), got \(5,\)"),
        ({"dtype": torch.int32}, "target: expected an int64 tensor, got torch.int32"),
        ({"hidden_dtype": torch.float64}, "hidden: expected a float32, bfloat16 or float16 tensor, got torch.float64"),
        ({"device": "meta"}, "weight: expected a tensor on .*, got meta"),
        ({"reduction": "max"}, "reduction: expected sum or mean or none, got 'max'"),
        ({"method": "fast"}, "method: expected auto or flash or chunked, got 'fast'"),
        ({"method": "flash", "hidden_dtype": FP32}, "hidden: expected bfloat16 or float16 of width up to .* for flash, got"),
    ],
)  # fmt: skip
def test_bad_arguments_name_themselves(change: dict[str, Any], message: str, draw: Draw) -> None:
    shapes = {"hidden": (4, 16), "weight": (30, 16), "bias": (30,), "target": (4,)} | change
    hidden, weight, bias, target = (draw(*shapes[name]) for name in ("hidden", "weight", "bias", "target"))
    how = {name: change[name] for name in ("reduction", "method") if name in change}
    with pytest.raises(ValueError, match=f"^linear_cross_entropy: {message}"):
        linear_cross_entropy(
            hidden.to(change.get("hidden_dtype", BF16)), weight.to(change.get("device", weight.device)), bias,
            target.detach().to(change.get("dtype", torch.int64)), **how,
        )  # fmt: skip


def test_flops_and_method(draw: Draw, device: torch.device) -> None:
    widest = head_flash.max_width(device)
    assert [home.method_for(width, BF16, device) for width in (8, widest, widest + 1)] == ["flash", "flash", "chunked"]
    assert home.method_for(64, FP32, device) == "chunked" and home.method_for(64, FP16, device) == "flash"
    x, w, b, target, _ = case(draw, 9, 40, 16, BF16)
    with FlopCounterMode(display=False) as counter:
        linear_cross_entropy(x, w, b, target).backward()
    assert counter.get_total_flops() == 6 * 9 * 40 * 16
    assert sum(home.hardware_flops(9, 40, 16, "flash")) == 10 * 9 * 40 * 16
    assert sum(home.hardware_flops(9, 40, 16, "chunked")) == 8 * 9 * 40 * 16


def test_the_counts_of_runs_know_what_each_method_executes(device: torch.device) -> None:
    from algoprog.flops.count import HEADS, FlopCount, head_recompute

    model = FlopCount.of_products("head", 2 * 9 * 40 * 16)
    for method in METHODS:
        assert sum(home.hardware_flops(9, 40, 16, method)) == (model + head_recompute(model, method)).of(
            "head", "recompute"
        )
    operations = select("fused", device, BF16)
    assert head_kind(operations, 64, BF16, device) == "flash" and head_kind(operations, 1024, BF16, device) == "chunked"
    assert head_kind(REFERENCE, 64, BF16, device) == "plain"
    assert set(HEADS) == {"plain", *METHODS}


def test_wide_heads_before_hopper_are_chunked_and_flash_by_name_is_refused(
    draw: Draw, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles wider than 64 spill kilobytes where products take their operands from registers."""
    monkeypatch.setattr(head_flash, "_hopper", lambda device: False)
    assert [home.method_for(width, BF16, device) for width in (64, 65, 128)] == ["flash", "chunked", "chunked"]
    assert home.describe(device, BF16) == "flash to width 64, chunked beyond"
    reasons = {choice.op: choice.reason for choice in select("fused", device, BF16).choices}
    assert reasons["linear_cross_entropy"] == "requested: flash to width 64, chunked beyond"
    arguments = case(draw, 20, 40, 128, BF16)[:4]
    with pytest.raises(
        ValueError, match="hidden: expected bfloat16 or float16 of width up to 64 for flash, got .* of width 128"
    ):
        linear_cross_entropy(*arguments, method="flash")
    assert torch.equal(linear_cross_entropy(*arguments), linear_cross_entropy(*arguments, method="chunked"))


class Head(nn.Module):
    def __init__(self, width: int, device: torch.device) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(50, width, device=device))
        self.bias = nn.Parameter(torch.randn(50, device=device))

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return linear_cross_entropy(x, self.weight, self.bias, target, reduction="mean")


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_graph_breaks(dynamic: bool, dtype: torch.dtype, draw: Draw, device: torch.device) -> None:
    torch._dynamo.reset()
    head = Head(16, device)
    compiled = torch.compile(head, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for rows in (6, 9):
        x, target = draw(rows, 16, dtype=dtype), targets(draw, rows, 50)
        outcomes = []
        for module in (head, compiled):
            loss = module(x, target)
            outcomes.append((loss, *torch.autograd.grad(loss, (x, *head.parameters()))))
        torch.testing.assert_close(outcomes[1], outcomes[0], rtol=1e-6, atol=1e-7)


def test_autocast_gives_the_type_of_its_products(draw: Draw, device: torch.device) -> None:
    x, w, b, target, _ = case(draw, 20, 40, 16, FP32)
    with torch.autocast(device.type, BF16):
        loss = linear_cross_entropy(x, w, b, target)
    loss.backward()
    assert loss.dtype == x.grad.dtype == w.grad.dtype == FP32
    assert torch.equal(loss, linear_cross_entropy(x.detach().bfloat16(), w, b, target))


def test_rows_beyond_two_to_the_31_elements(only_program: Callable[[int], None]) -> None:
    width, rows, vocab = 256, 2**23 + 2, 40
    x, target = torch.empty(rows, width, dtype=BF16), torch.zeros(rows, dtype=torch.int64)
    x[-2:], target[-2:] = torch.randn(2, width) / 16, torch.tensor([3, 39])
    w = torch.randn(vocab, width).bfloat16()
    only_program(rows // 128)
    hit, lse = head_flash.forward(x, w, None, target)
    loss = lse[-2:] * head_flash.LN2.value - hit[-2:]
    torch.testing.assert_close(loss, eager(x[-2:].float(), w.float(), None, target[-2:]), rtol=1e-5, atol=1e-5)
    part, zero = torch.empty(1, rows, width), torch.zeros(rows)
    BM, BV, warps, _ = head_flash.TILES[256][1]
    head_flash.head_dx[(rows // BM + 1, 1)](
        x, w, None, target, hit, lse, zero, part, rows, V=vocab, D=width, DP=width, BM=BM, BV=BV, UPCAST=True,
    )  # fmt: skip
    p = (x[-2:].float() @ w.float().T).softmax(-1)
    p[torch.arange(2), target[-2:]] = 0
    torch.testing.assert_close(part[0, -2:], p @ w.float(), rtol=2e-2, atol=2e-2)


def test_vocabularies_beyond_two_to_the_31_elements(only_program: Callable[[int], None]) -> None:
    width, vocab = 256, 2**23 + 128
    w, x = torch.empty(vocab, width, dtype=BF16), torch.randn(5, width).bfloat16() / 16
    w[-128:] = torch.randn(128, width).bfloat16()
    target = torch.tensor([vocab - 1, vocab - 128, vocab - 7, vocab - 7, vocab - 100])
    tail = w[-128:].float().requires_grad_()
    eager(x.float(), tail, None, target - (vocab - 128)).sum().backward()
    z = x.float() @ w[-128:].float().T
    hit, lse = z.gather(1, target[:, None] - (vocab - 128))[:, 0], z.logsumexp(-1) * head_flash.LOG2E.value
    only_program(vocab // 128 - 1)
    dweight, _ = head_flash._weight_gradient(
        torch.ones(5), x, w, None, target, hit, lse, torch.expm1(hit - lse * head_flash.LN2.value), 1.0
    )
    torch.testing.assert_close(dweight[-128:], tail.grad, rtol=2e-2, atol=2e-3)
