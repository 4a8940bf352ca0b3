"""Rotary position embedding of normed queries and keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from algoprog.kernels import reference
from algoprog.kernels.fused import launch, qk_norm_rope, rotation

Draw = Callable[..., Tensor]

SHAPES = [  # steps, heads, kv heads, head width, rotary width
    (5, 2, 2, 8, 8), (7, 3, 3, 6, 6), (3, 4, 2, 16, 16), (4, 6, 1, 32, 16), (1, 1, 1, 64, 64), (33, 5, 5, 10, 4),
    (3, 1, 1, 7, 2), (9, 1, 1, 256, 256),
]  # fmt: skip


def tables(steps: int, angles: int, device: torch.device) -> tuple[Tensor, Tensor]:
    angle = torch.outer(torch.arange(float(steps)), 100.0 ** -torch.linspace(0, 1, angles)).to(device)
    return angle.cos(), angle.sin()


def both(heads: int, kv_heads: int, eps: float = 1e-6, **how: Any) -> list[Callable[..., Any]]:
    """The fused operation and the reference as functions of (qkv, q_weight, k_weight, cos, sin)."""
    ops = (qk_norm_rope.qk_norm_rope, reference.qk_norm_rope)
    return [lambda *a, op=op: op(*a, heads, kv_heads, eps=eps, **how) for op in ops]


def gains(draw: Draw, width: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [draw(width, mean=1.0, scale=0.5, dtype=dtype) for _ in range(2)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("steps", "heads", "kv_heads", "width", "rotary"), SHAPES)
def test_accuracy(
    steps: int, heads: int, kv_heads: int, width: int, rotary: int, dtype: torch.dtype, draw: Draw, agree: Any,
    device: torch.device,
) -> None:  # fmt: skip
    qkv = draw(3, steps, (heads + 2 * kv_heads) * width, dtype=dtype)
    agree(*both(heads, kv_heads), qkv, *gains(draw, width), *tables(steps + 3, rotary // 2, device))


@pytest.mark.parametrize("layout", ["misaligned", "transposed", "expanded"])
def test_layouts(layout: str, draw: Draw, agree: Any, device: torch.device) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        given = draw(2, 9, 48, dtype=dtype, layout=layout), *gains(draw, 8, dtype), *tables(9, 4, device)
        agree(*both(2, 2), *given)


def test_small_and_large_values(draw: Draw, agree: Any, device: torch.device) -> None:
    for scale in (0.02, 1e10):
        given = draw(2, 9, 96, scale=scale), *gains(draw, 16), *tables(9, 8, device)
        agree(*both(2, 2, 1e-8), *given)
    agree(*both(2, 2), draw(2, 9, 96, scale=9000.0, dtype=torch.float16), *gains(draw, 16), *tables(9, 8, device))


def test_it_is_the_norm_and_then_the_rotation(draw: Draw, agree: Any, device: torch.device) -> None:
    """Against the two operations by themselves, and with a gain of one and no rotation every head has length sqrt(K)."""
    qkv, (one, two), (cos, sin) = draw(2, 5, 4 * 8), gains(draw, 8), tables(5, 4, device)
    q, k, v = both(2, 1)[0](qkv, one, two, cos, sin)
    normed = [reference.rms_norm(part.unflatten(-1, (-1, 8)), w, 1e-6).flatten(2)
              for part, w in zip(qkv.split([16, 8, 8], dim=-1), (one, two, torch.ones_like(one)), strict=True)]  # fmt: skip
    wanted = reference.rope(torch.cat(normed, dim=-1), cos, sin, 2, 1)
    torch.testing.assert_close((q, k), wanted[:2], rtol=1e-5, atol=1e-5)
    assert torch.equal(v, reference.split_heads(qkv, 2, 1)[2])
    ones = torch.ones_like(one)
    q, _, _ = both(2, 1, 1e-12)[0](qkv, ones, ones, torch.ones_like(cos), torch.zeros_like(sin))
    torch.testing.assert_close(q.norm(dim=-1), torch.full_like(q[..., 0], 8**0.5))


@pytest.mark.parametrize("per_sequence", [False, True])
def test_positions(per_sequence: bool, draw: Draw, agree: Any, device: torch.device) -> None:
    shape = (3, 7) if per_sequence else (7,)
    positions = torch.randint(40, shape, generator=torch.Generator().manual_seed(1)).to(device)
    agree(*both(2, 1, positions=positions), draw(3, 7, 32), *gains(draw, 8), *tables(40, 3, device))


def test_a_position_outside_the_tables_shows_in_its_token_and_in_the_gains(draw: Draw, device: torch.device) -> None:
    qkv, weights, positions = draw(2, 5, 48), gains(draw, 8), torch.tensor([0, 6, -1, 5, 2**40], device=device)
    q, k, v = both(2, 2, positions=positions)[0](qkv, *weights, *tables(6, 4, device))
    (q.sum() + k.sum() + v.sum()).backward()
    for wrong in (q.transpose(1, 2), k.transpose(1, 2), qkv.grad[..., :32]):
        assert wrong[:, [1, 2, 4]].isnan().all() and not wrong[:, [0, 3]].isnan().any()
    assert not v.isnan().any() and all(w.grad.isnan().all() for w in weights)


@pytest.mark.parametrize("tokens", [1, 128, 129])
def test_programs_that_walk_over_several_tiles(
    tokens: int, draw: Draw, agree: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "PROGRAMS", 2)
    monkeypatch.setattr(rotation, "TILE", 256)
    agree(*both(3, 1), draw(1, tokens, 40), *gains(draw, 8), *tables(tokens, 4, device))


def test_no_rows(draw: Draw, device: torch.device) -> None:
    for shape in ((0, 4, 48), (2, 0, 48)):
        qkv, weights = draw(*shape), gains(draw, 8)
        q, k, v = both(2, 2)[0](qkv, *weights, *tables(4, 4, device))
        assert q.shape == (shape[0], 2, shape[1], 8)
        (q.sum() + k.sum() + v.sum()).backward()
        assert qkv.grad.shape == qkv.shape
        assert all(torch.equal(w.grad, torch.zeros_like(w)) for w in weights)


def test_equal_bit_for_bit_when_repeated_and_inputs_untouched(draw: Draw, device: torch.device) -> None:
    given = [draw(2, 40, 48), *gains(draw, 8)]
    before, angles, runs = [t.detach().clone() for t in given], tables(40, 4, device), []
    for _ in range(2):
        q, k, v = both(2, 2)[0](*given, *angles)
        runs.append([q, k, v, *torch.autograd.grad((q * k * v).sum(), given)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, given, strict=True))
    with pytest.raises(RuntimeError):
        q, _, _ = both(2, 2)[0](*given, *angles)
        torch.autograd.grad(q.square().sum(), given[0], create_graph=True)[0].sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q_weight": (7,)}, r"qk_norm_rope: q_weight: expected shape \(8,\), got \(7,\)"),
        ({"k_weight": (2, 8)}, r"qk_norm_rope: k_weight: expected shape \(8,\), got \(2, 8\)"),
        ({"qkv": (2, 3, 49)}, r"qk_norm_rope: qkv: expected a last dimension divisible by 6 heads, got \(2, 3, 49\)"),
        ({"eps": 0.0}, "qk_norm_rope: eps: expected a number above 0, got 0.0"),
        ({"device": "meta"}, "qk_norm_rope: q_weight: expected a tensor on .*, got meta"),
        ({"dtype": torch.float64}, "qk_norm_rope: q_weight: expected a float32, bfloat16 or float16 tensor, got"),
    ],
)
def test_bad_arguments_name_themselves(change: dict[str, Any], message: str, draw: Draw, device: torch.device) -> None:
    given = {"qkv": (2, 3, 48), "q_weight": (8,), "k_weight": (8,), "eps": 1e-6} | change
    qkv, q_weight, k_weight = (draw(*given[name]) for name in ("qkv", "q_weight", "k_weight"))
    q_weight = q_weight.to(change.get("dtype", torch.float32)).to(change.get("device", device))
    with pytest.raises(ValueError, match=message):
        both(2, 2, given["eps"])[0](qkv, q_weight, k_weight, *tables(3, 4, device))


def test_beyond_two_to_the_31_elements(only_program: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    heads, width, steps, batch = 8, 64, 4, 2**19 + 1
    assert batch * steps * heads * width * 3 > 2**31
    tiles = batch * steps // rotation.tile(heads, width // 2)[0]
    cos, sin = tables(steps, width // 2, torch.device("cpu"))
    qkv = torch.empty(batch, steps, 3 * heads * width, dtype=torch.bfloat16)
    tail = torch.randn(1, steps, 3 * heads * width).bfloat16().requires_grad_()
    qkv[-1:] = tail.detach()
    weights = [torch.rand(width) + 0.5 for _ in range(2)]
    only_program(tiles - 1)
    got = both(heads, heads)[0](qkv, *weights, cos, sin)
    wanted = both(heads, heads)[1](tail, *weights, cos, sin)
    for ours, exact in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours[-1:, :, -4:], exact, rtol=2e-2, atol=2e-2)
    dparts = [torch.empty(batch, steps, heads, width, dtype=torch.bfloat16) for _ in range(3)]
    for part in dparts:
        part[-1:] = torch.randn(1, steps, heads, width)
    torch.autograd.backward(wanted, [part[-1:].transpose(1, 2) for part in dparts])
    monkeypatch.setattr(
        launch, "PROGRAMS", 3 * tiles
    )  # a tile per program, as if the persistent grid had come that far
    dqkv, _, _ = qk_norm_rope._launch_backward(*dparts, qkv, *weights, cos, sin, None, 1e-6)
    torch.testing.assert_close(dqkv[-1:], tail.grad, rtol=3e-2, atol=3e-2)
