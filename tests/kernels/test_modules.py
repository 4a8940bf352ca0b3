"""Modules around the operations: the state and the numbers of what they stand for, by the operations they were given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoprog.kernels import REFERENCE, Operations, modules, reference
from algoprog.kernels.dispatch import OPERATIONS


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


@pytest.fixture
def watched() -> tuple[Operations, list[str]]:
    """Operations that note their names when they are called."""
    called: list[str] = []

    def watch(op: str) -> Callable[..., Any]:
        plain = getattr(reference, op)
        return lambda *args, **kwargs: called.append(op) or plain(*args, **kwargs)

    return dataclasses.replace(REFERENCE, **{op: watch(op) for op in OPERATIONS}), called


@pytest.mark.parametrize("bias", [True, False])
def test_norms_have_the_state_and_the_numbers_of_pytorch(bias: bool, watched: tuple[Operations, list[str]]) -> None:
    operations, called = watched
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (modules.RMSNorm(12, 1e-6, operations), nn.RMSNorm(12, 1e-6)),
        (modules.LayerNorm(12, 1e-5, bias, operations), nn.LayerNorm(12, 1e-5, bias=bias)),
    ]
    x, branch = random(3, 5, 12), random(3, 5, 12, seed=1)
    for ours, theirs in pairs:
        theirs.load_state_dict({name: random(12, seed=len(name)) for name in theirs.state_dict()})
        ours.load_state_dict(theirs.state_dict())
        assert list(ours.state_dict()) == list(theirs.state_dict())
        y, s = ours(x)
        assert s is x
        torch.testing.assert_close(y, theirs(x))
        y, s = ours(x, branch)
        assert torch.equal(s, x + branch)
        torch.testing.assert_close(y, theirs(x + branch))
    assert called == ["rms_norm", "add_rms_norm", "layer_norm", "add_layer_norm"]


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("swiglu", lambda x: F.silu(x[..., :6]) * x[..., 6:]),
        ("glu", lambda x: x[..., :6].sigmoid() * x[..., 6:]),
        ("gelu", F.gelu),
        ("relu", F.relu),
    ],
)
def test_activations(name: str, formula: Callable[[Tensor], Tensor], watched: tuple[Operations, list[str]]) -> None:
    activation, x = modules.Activation(name, watched[0]), random(4, 12)
    torch.testing.assert_close(activation(x), formula(x))
    assert activation(x).shape[-1] * activation.inputs == 12
    assert watched[1] == [modules.ACTIVATIONS[name]] * 2 and not activation.state_dict()


@pytest.mark.parametrize("kv_heads", [None, 2])
def test_attention_rotates_by_the_positions_it_is_given(
    kv_heads: int | None, watched: tuple[Operations, list[str]]
) -> None:
    """Scores depend on distances only: a shift of all positions changes nothing, another order of them does."""
    operations, called = watched
    operations = dataclasses.replace(
        operations,
        causal_attention=lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
    )
    rotary = modules.Rotary(8, 40, 10000.0, operations)
    attention = modules.Attention(4, kv_heads, operations)
    qkv = random(2, 7, (4 + 2 * (kv_heads or 4)) * 8).requires_grad_()
    mixed = attention(qkv, rotary)
    assert mixed.shape == (2, 7, 32) and not rotary.state_dict() and called == ["rope"]
    positions = torch.arange(7)
    torch.testing.assert_close(attention(qkv, rotary, positions=positions), mixed)
    torch.testing.assert_close(attention(qkv, rotary, positions=positions + 33), mixed, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(attention(qkv, rotary, positions=positions.flip(0)), mixed, rtol=1e-2, atol=1e-2)
    plain = attention(qkv)
    q, k, v = reference.split_heads(qkv, 4, kv_heads or 4)
    torch.testing.assert_close(plain, operations.causal_attention(q, k, v).transpose(1, 2).flatten(2))
    with torch.no_grad():
        torch.testing.assert_close(attention(qkv.clone(), rotary), mixed.detach())


def test_rotary_allows_overwriting_only_where_no_gradient_is_recorded() -> None:
    allowed: list[bool] = []

    def rope(*args: Any, inplace: bool, **kwargs: Any) -> Any:
        allowed.append(inplace)
        return reference.rope(*args, **kwargs)

    rotary = modules.Rotary(8, 5, 100.0, dataclasses.replace(REFERENCE, rope=rope))
    rotary(random(1, 5, 24), 1)
    with torch.no_grad():
        rotary(random(1, 5, 24), 1)
    assert allowed == [False, True]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_the_head_is_a_linear_map_and_a_cross_entropy(
    tied: bool, bias: bool, watched: tuple[Operations, list[str]]
) -> None:
    head = modules.LinearCrossEntropy(8, 11, bias, tied, watched[0])
    linear = nn.Linear(8, 11, bias=bias)
    if not tied:
        head.load_state_dict(linear.state_dict())
    elif bias:
        head.load_state_dict({"bias": linear.bias.detach()})
    targets = torch.tensor([[3, -100, 0], [10, 5, 5]])
    x, other = random(2, 3, 8), random(11, 8)
    loss = head(x, linear.weight if tied else other, targets)
    wanted = F.cross_entropy(linear(x).flatten(0, 1), targets.flatten(), reduction="sum")
    torch.testing.assert_close(loss, wanted)
    assert watched[1] == ["linear_cross_entropy"]
    assert list(head.state_dict()) == [name for name, own in (("weight", not tied), ("bias", bias)) if own]


def test_a_block_of_them_compiles_without_graph_breaks() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.mix = modules.RMSNorm(24, 1e-6), modules.Attention(1)
            self.rotary, self.activation = modules.Rotary(8, 9, 100.0), modules.Activation("swiglu")
            self.head = modules.LinearCrossEntropy(8, 13, True, True)

        def forward(self, x: Tensor, table: Tensor, targets: Tensor) -> Tensor:
            y, s = self.norm(x)
            _, s = self.norm(s, y)
            mixed = self.activation(self.mix(s, self.rotary).repeat(1, 1, 2))
            loss: Tensor = self.head(mixed, table, targets)
            return loss

    torch._dynamo.reset()
    block, x, table = Block(), random(2, 5, 24).requires_grad_(), random(13, 8)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    targets = torch.arange(10).view(2, 5)
    found = []
    for module in (block, compiled):
        loss = module(x, table, targets)
        found.append((loss, *torch.autograd.grad(loss, x)))
    torch.testing.assert_close(found[1], found[0])
