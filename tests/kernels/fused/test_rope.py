"""Rotary position embedding over a packed projection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from algoprog.kernels import reference
from algoprog.kernels.fused import rope as fused

Draw = Callable[..., Tensor]


def tables(steps: int, angles: int, device: torch.device) -> tuple[Tensor, Tensor]:
    angle = torch.outer(torch.arange(float(steps)), 100.0 ** -torch.linspace(0, 1, angles)).to(device)
    return angle.cos(), angle.sin()


SHAPES = [  # steps, heads, kv heads, head width, rotary width
    (5, 2, 2, 8, 8), (7, 3, 3, 6, 6), (3, 4, 2, 16, 16), (4, 6, 1, 32, 16), (1, 1, 1, 64, 64), (33, 5, 5, 10, 4),
    (2, 2, 2, 2, 2), (9, 1, 1, 256, 256),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("steps", "heads", "kv_heads", "width", "rotary"), SHAPES)
def test_accuracy(
    steps: int, heads: int, kv_heads: int, width: int, rotary: int, dtype: torch.dtype, draw: Draw, agree: Any,
    device: torch.device,
) -> None:  # fmt: skip
    cos, sin = tables(steps + 3, rotary // 2, device)
    qkv = draw(3, steps, (heads + 2 * kv_heads) * width, dtype=dtype)
    agree(fused.rope, reference.rope, qkv, cos, sin, heads, kv_heads)


@pytest.mark.parametrize("layout", ["misaligned", "transposed", "expanded"])
def test_layouts(layout: str, draw: Draw, agree: Any, device: torch.device) -> None:
    cos, sin = tables(9, 4, device)
    agree(fused.rope, reference.rope, draw(2, 9, 48, layout=layout), cos, sin, 2)
    agree(fused.rope, reference.rope, draw(2, 9, 48, dtype=torch.bfloat16, layout=layout), cos.T.contiguous().T, sin, 2)


def test_gradients_with_any_strides(draw: Draw, device: torch.device) -> None:
    """Attention kernels return gradients in layouts of their own, a sum gives an expanded one."""
    cos, sin = tables(5, 4, device)
    found = []
    for rope in (fused.rope, reference.rope):
        qkv = torch.randn(2, 5, 48, generator=torch.Generator().manual_seed(1)).to(device).requires_grad_()
        q, k, v = rope(qkv, cos, sin, 2)
        weight = torch.randn(2, 5, 8, 2, generator=torch.Generator().manual_seed(2)).to(device)
        ((q * weight.permute(0, 3, 1, 2)).sum() + k.sum() + (v * weight.permute(0, 3, 1, 2)).sum()).backward()
        found.append(qkv.grad)
    torch.testing.assert_close(*found)


def test_one_part_alone(draw: Draw, agree: Any, device: torch.device) -> None:
    cos, sin = tables(5, 4, device)
    for part in range(3):
        agree(lambda *a: fused.rope(*a)[part], lambda *a: reference.rope(*a)[part], draw(2, 5, 48), cos, sin, 2)  # noqa: B023


def test_rotating_there_and_back(draw: Draw, device: torch.device) -> None:
    cos, sin = tables(50, 8, device)
    qkv = draw(2, 50, 3 * 4 * 16)
    q, k, v = fused.rope(qkv, cos, sin, 4)
    back = torch.ops.algoprog.rope_backward(*(x.transpose(1, 2).contiguous() for x in (q, k, v)), cos, sin, None)
    torch.testing.assert_close(back, qkv, rtol=0, atol=4 * 2.0**-23 * qkv.abs().max().item())


@pytest.mark.parametrize("per_sequence", [False, True])
def test_positions_choose_rows_of_the_tables(per_sequence: bool, draw: Draw, agree: Any, device: torch.device) -> None:
    cos, sin = tables(40, 3, device)
    generator = torch.Generator().manual_seed(0)
    shape = (3, 7) if per_sequence else (7,)
    positions = torch.randint(40, (*shape, 2), generator=generator)[..., 0].to(device)  # of stride 2
    for dtype in (torch.float32, torch.bfloat16):
        qkv = draw(3, 7, 4 * 8, dtype=dtype)
        agree(
            *(lambda *a, op=op: op(*a, 2, 1, positions=positions) for op in (fused.rope, reference.rope)), qkv, cos, sin
        )
    counted = torch.arange(7, device=device).expand(shape)
    for got, wanted in zip(
        fused.rope(qkv, cos, sin, 2, 1, positions=counted), fused.rope(qkv, cos, sin, 2, 1), strict=True
    ):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("implementation", [fused, reference])
def test_a_position_outside_the_tables_shows(implementation: Any, draw: Draw, device: torch.device) -> None:
    cos, sin = tables(6, 4, device)
    qkv = draw(2, 5, 48)
    positions = torch.tensor([0, 6, -1, 5, 2**40], device=device)
    q, k, v = implementation.rope(qkv, cos, sin, 2, positions=positions)
    (q.sum() + k.sum() + v.sum()).backward()
    for wrong in (q.transpose(1, 2), k.transpose(1, 2), qkv.grad[..., :32]):
        assert wrong[:, [1, 2, 4]].isnan().all() and not wrong[:, [0, 3]].isnan().any()
    assert not v.isnan().any() and not qkv.grad[..., 32:].isnan().any()


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_in_place_equals_out_of_place_and_leaves_v(kv_heads: int, draw: Draw, device: torch.device) -> None:
    cos, sin = tables(7, 4, device)
    qkv = draw(2, 7, (4 + 2 * kv_heads) * 8).detach()
    how = {"positions": torch.arange(7, device=device).flip(0)} if kv_heads == 1 else {}
    expected = fused.rope(qkv, cos, sin, 4, kv_heads, **how)
    before = qkv.clone()
    got = fused.rope(qkv, cos, sin, 4, kv_heads, **how, inplace=True)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert all(part.untyped_storage().data_ptr() == qkv.untyped_storage().data_ptr() for part in got)
    assert torch.equal(qkv[..., (4 + kv_heads) * 8 :], before[..., (4 + kv_heads) * 8 :])
    assert not torch.equal(qkv, before)


def test_no_rows(draw: Draw, device: torch.device) -> None:
    cos, sin = tables(4, 4, device)
    for shape in ((0, 4, 48), (2, 0, 48)):
        qkv = draw(*shape)
        q, k, v = fused.rope(qkv, cos, sin, 2)
        assert q.shape == (shape[0], 2, shape[1], 8)
        (q.sum() + k.sum() + v.sum()).backward()
        assert qkv.grad.shape == qkv.shape


def test_double_backward_raises(draw: Draw, device: torch.device) -> None:
    qkv = draw(1, 3, 12)
    q, _, _ = fused.rope(qkv, *tables(3, 2, device), 1)
    (gradient,) = torch.autograd.grad(q.square().sum(), qkv, create_graph=True)
    with pytest.raises(RuntimeError):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qkv": (2, 3, 25)}, r"rope: qkv: expected a last dimension divisible by 6 heads, got \(2, 3, 25\)"),
        ({"qkv": (3, 24)}, r"rope: qkv: expected shape \[B, T, .*\], got \(3, 24\)"),
        ({"heads": 0}, "rope: heads: expected at least 1, got 0"),
        ({"heads": 3, "kv_heads": 2}, "rope: kv_heads: expected a divisor of heads 3, got 2"),
        ({"cos": (2, 2)}, r"rope: cos: expected shape \[at least 3 positions, 1 to 2 angles\], got \(2, 2\)"),
        ({"cos": (3, 3)}, r"rope: cos: expected shape .*, got \(3, 3\)"),
        ({"cos": (4, 2)}, r"rope: sin: expected the shape of cos, \(4, 2\), got \(3, 2\)"),
        ({"cos": (0, 2), "positions": (3,)}, r"rope: cos: expected shape \[at least 1 positions, .*, got \(0, 2\)"),
        ({"positions": (2,)}, r"rope: positions: expected shape \(3,\) or \(2, 3\), got \(2,\)"),
        ({"positions": (3, 2)}, r"rope: positions: expected shape \(3,\) or \(2, 3\), got \(3, 2\)"),
        ({"position_kind": torch.int32}, "rope: positions: expected an int64 tensor, got torch.int32"),
        ({"table_kind": torch.bfloat16}, "rope: cos: expected a float32 tensor, got torch.bfloat16"),
        ({"kind": torch.float64}, "rope: qkv: expected a float32, bfloat16 or float16 tensor, got torch.float64"),
        ({"device": "meta"}, "rope: cos: expected a tensor on .*, got meta"),
        ({"position_device": "meta"}, "rope: positions: expected a tensor on .*, got meta"),
        ({"inplace": True}, "rope: inplace: expected False while a gradient of qkv is recorded, got True"),
    ],
)  # fmt: skip
def test_bad_arguments_name_themselves(change: dict[str, Any], message: str, draw: Draw, device: torch.device) -> None:
    given = {"qkv": (2, 3, 24), "cos": (3, 2), "sin": (3, 2), "heads": 2, "kv_heads": None, "inplace": False} | change
    qkv = draw(*given["qkv"]).to(given.get("kind", torch.float32))
    cos, sin = (
        torch.ones(given[name], dtype=given.get("table_kind", torch.float32), device=given.get("device", device))
        for name in ("cos", "sin")
    )
    positions = None
    if any(name.startswith("position") for name in given):
        positions = torch.zeros(
            given.get("positions", (3,)), dtype=given.get("position_kind", torch.int64),
            device=given.get("position_device", device),
        )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        fused.rope(qkv, cos, sin, given["heads"], given["kv_heads"], positions=positions, inplace=given["inplace"])


def test_beyond_two_to_the_31_elements(only_program: Callable[[int], None], device: torch.device) -> None:
    heads, width, steps, batch = 8, 64, 4, 2**19 + 1
    assert batch * steps * heads * width * 3 > 2**31
    tile_tokens = fused.tile(heads, width // 2)[0]
    cos, sin = tables(steps, width // 2, device)
    qkv = torch.empty(batch, steps, 3 * heads * width, dtype=torch.bfloat16)
    tail = torch.randn(1, steps, 3 * heads * width).bfloat16()
    qkv[-1:] = tail
    only_program(batch * steps // tile_tokens - 1)
    q, k, v = fused.rope(qkv, cos, sin, heads)
    expected = reference.rope(tail, cos, sin, heads)
    last = tile_tokens
    for got, wanted in zip((q, k, v), expected, strict=True):
        torch.testing.assert_close(got[-1:, :, -last:], wanted[:, :, -last:])
    parts = [x.transpose(1, 2) for x in (q, k, v)]
    back = torch.ops.algoprog.rope_backward(*parts, cos, sin, None)
    torch.testing.assert_close(back[-1:, -last:], tail[:, -last:], rtol=2e-2, atol=2e-2)
