"""Costs of elementwise work: counted by numbers that count their own operations, while the result is checked by autograd."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from algoprog.config import LstmConfig, TransformerConfig
from algoprog.flops.elementwise import COSTS, elementwise_flops
from algoprog.models import model_flops


class Number:
    """A float that counts the operations it takes part in."""

    operations = 0

    def __init__(self, value: float) -> None:
        self.value = value

    def _apply(self, function: Callable[[float, float], float], other: Number | float) -> Number:
        Number.operations += 1
        return Number(function(self.value, other.value if isinstance(other, Number) else other))

    def __add__(self, other: Number | float) -> Number:
        return self._apply(lambda a, b: a + b, other)

    def __sub__(self, other: Number | float) -> Number:
        return self._apply(lambda a, b: a - b, other)

    def __mul__(self, other: Number | float) -> Number:
        return self._apply(lambda a, b: a * b, other)

    def __truediv__(self, other: Number | float) -> Number:
        return self._apply(lambda a, b: a / b, other)

    def of(self, function: Callable[[float], float]) -> Number:
        return self._apply(lambda a, _: function(a), 0.0)


def total(numbers: list[Number]) -> Number:
    """A sum of n terms costs n: each is added to the accumulator."""
    result = Number(0.0)
    for number in numbers:
        result = result + number
    return result


def sigmoid(x: Number) -> Number:
    return Number(1.0) / (x.of(lambda a: -a).of(math.exp) + 1.0)


def rms_norm(x: list[Number], gain: list[Number]) -> list[Number]:
    scale = (total([a * a for a in x]) / len(x) + 1e-8).of(lambda a: a**-0.5)
    return [a * scale * g for a, g in zip(x, gain, strict=True)]


def layer_norm(x: list[Number], gain: list[Number]) -> list[Number]:
    mean = total(x) / len(x)
    centred = [a - mean for a in x]
    scale = (total([a * a for a in centred]) / len(x) + 1e-5).of(lambda a: a**-0.5)
    return [a * scale * g for a, g in zip(centred, gain, strict=True)]


def softmax_of_scores(scores: list[Number], scale: float) -> list[Number]:
    scaled = [s * scale for s in scores]
    top = scaled[0].of(lambda a: a)
    for s in scaled[1:]:
        top = s._apply(max, top)
    parts = [(s - top).of(math.exp) for s in scaled]
    norm = total(parts)
    return [p / norm for p in parts]


SEED = torch.Generator().manual_seed(1)
DATA, GAIN, SECOND = (torch.randn(5, generator=SEED, dtype=torch.float64) for _ in range(3))


def numbers(values: torch.Tensor) -> list[Number]:
    return [Number(v) for v in values.tolist()]


FORWARD: dict[str, tuple[Callable[[], list[Number]], torch.Tensor]] = {
    "rms_norm": (lambda: rms_norm(numbers(DATA), numbers(GAIN)), F.rms_norm(DATA, (5,), GAIN, 1e-8)),
    "layer_norm": (lambda: layer_norm(numbers(DATA), numbers(GAIN)), F.layer_norm(DATA, (5,), GAIN)),
    "swiglu": (
        lambda: [x * sigmoid(x) * up for x, up in zip(numbers(DATA), numbers(SECOND), strict=True)],
        F.silu(DATA) * SECOND,
    ),
    "glu": (
        lambda: [sigmoid(x) * up for x, up in zip(numbers(DATA), numbers(SECOND), strict=True)],
        torch.sigmoid(DATA) * SECOND,
    ),
    "gelu": (lambda: [((x / math.sqrt(2)).of(math.erf) + 1.0) * 0.5 * x for x in numbers(DATA)], F.gelu(DATA)),
    "relu": (lambda: [x.of(lambda a: max(a, 0.0)) for x in numbers(DATA)], F.relu(DATA)),
    "softmax": (lambda: softmax_of_scores(numbers(DATA), 0.5), torch.softmax(DATA * 0.5, 0)),
}


@pytest.mark.parametrize("operation", list(FORWARD))
def test_forward_costs(operation: str) -> None:
    definition, expected = FORWARD[operation]
    Number.operations = 0
    result = definition()
    assert [r.value for r in result] == pytest.approx(expected.tolist(), abs=1e-9)
    cost = COSTS[operation]
    assert Number.operations == cost.forward * 5 + cost.row_forward


def gradient(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> list[list[float]]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    (function(*leaves) * WEIGHT).sum().backward()
    return [leaf.grad.tolist() for leaf in leaves]  # type: ignore[union-attr]


WEIGHT = torch.tensor([0.3, -1.0, 2.0, 0.7, 1.1], dtype=torch.float64)


def test_backward_cost_of_a_gated_activation() -> None:
    """The sigmoid and the activation are at hand from the forward pass."""
    s = [Number(v) for v in torch.sigmoid(DATA).tolist()]
    silu = [Number(v) for v in F.silu(DATA).tolist()]
    Number.operations = 0
    up_grad, gate_grad = [], []
    for x, up, dy, sig, act in zip(numbers(DATA), numbers(SECOND), numbers(WEIGHT), s, silu, strict=True):
        up_grad.append(dy * act)
        gate_grad.append(dy * up * (((Number(1.0) - sig) * x + 1.0) * sig))
    assert Number.operations == 5 * COSTS["swiglu"].backward
    expected = gradient(lambda x, up: F.silu(x) * up, DATA, SECOND)
    assert [g.value for g in gate_grad] == pytest.approx(expected[0])
    assert [g.value for g in up_grad] == pytest.approx(expected[1])


def test_backward_cost_of_rms_norm() -> None:
    """The normalised input and the scale are at hand; the gain's gradient is added to its sum over rows."""
    r = float((DATA.square().mean() + 1e-8).rsqrt())
    normal = [Number(v * r) for v in DATA.tolist()]
    Number.operations = 0
    gain_grad = [Number(0.0) + dy * n for dy, n in zip(numbers(WEIGHT), normal, strict=True)]
    g = [dy * w for dy, w in zip(numbers(WEIGHT), numbers(GAIN), strict=True)]
    mean = total([a * n for a, n in zip(g, normal, strict=True)]) / 5
    x_grad = [(a - n * mean) * r for a, n in zip(g, normal, strict=True)]
    assert Number.operations == 5 * COSTS["rms_norm"].backward + COSTS["rms_norm"].row_backward
    expected = gradient(lambda x, w: F.rms_norm(x, (5,), w, 1e-8), DATA, GAIN)
    assert [v.value for v in x_grad] == pytest.approx(expected[0])
    assert [v.value for v in gain_grad] == pytest.approx(expected[1])


def test_backward_cost_of_softmax() -> None:
    p = [Number(v) for v in torch.softmax(DATA * 0.5, 0).tolist()]
    Number.operations = 0
    dot = total([a * b for a, b in zip(p, numbers(WEIGHT), strict=True)])
    grad = [(dy - dot) * a * 0.5 for a, dy in zip(p, numbers(WEIGHT), strict=True)]
    assert Number.operations == 5 * COSTS["softmax"].backward
    assert [v.value for v in grad] == pytest.approx(gradient(lambda x: torch.softmax(x * 0.5, 0), DATA)[0])


def test_models_add_it_up() -> None:
    """A one-layer model by hand: every operation of the architecture appears, and none of it is a model FLOP."""
    T, D, V, H = 3, 4, 7, 2
    config = TransformerConfig(width=D, depth=1, heads=H, vocab=V, context=T, mlp_ratio=1.5, position="learned")
    parts = [
        ("embedding", T * D, 0), ("learned_positions", T * D, 0), ("rms_norm", 2 * T * D, 2 * T),
        ("layer_norm", T * D, T), ("bias", T * D, 0), ("bias", T * (3 * D + D + 2 * 6 + D), 0), ("swiglu", T * 6, 0),
        ("softmax", H * 6, 0), ("residual", 2 * T * D, 0), ("cross_entropy", T * V, T), ("bias", T * V, 0),
    ]  # fmt: skip
    expected = elementwise_flops("bias", 0)
    for operation, elements, rows in parts:
        expected += elementwise_flops(operation, elements, rows)
    assert model_flops(config).only(("elementwise",)) == expected
    lstm = LstmConfig(width=D, depth=2, vocab=V, context=T, bptt=T, bias=False, dropout=0.1)
    expected = elementwise_flops("embedding", T * D) + elementwise_flops("cross_entropy", T * V, T)
    expected += elementwise_flops("lstm_cell", 2 * T * D) + elementwise_flops("dropout", 3 * T * D)
    assert model_flops(lstm).only(("elementwise",)) == expected
