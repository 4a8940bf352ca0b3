"""Each operation against its formula in float64, gradients included."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from algoprog import kernels


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def agree(ours: Callable[..., Tensor], formula: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Values and all gradients of ``ours`` in fp32 equal those of ``formula`` in float64 to fp32 precision."""
    low = [x.clone().requires_grad_() for x in inputs]
    high = [x.double().requires_grad_() for x in inputs]
    got, expected = ours(*low), formula(*high)
    torch.testing.assert_close(got.double(), expected, rtol=2e-5, atol=2e-6)
    weight = random(*got.shape, seed=9) if got.ndim else torch.tensor(1.0)
    (got * weight).sum().backward()
    (expected * weight.double()).sum().backward()
    for a, b in zip(low, high, strict=True):
        torch.testing.assert_close(a.grad.double(), b.grad, rtol=2e-4, atol=2e-5)


def test_rms_norm() -> None:
    agree(lambda x, w: kernels.rms_norm(x, w, 1e-6), lambda x, w: x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * w,
          random(3, 5, 8), random(8))  # fmt: skip


def test_layer_norm() -> None:
    def formula(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w + b

    agree(lambda x, w, b: kernels.layer_norm(x, w, b, 1e-5), formula, random(3, 5, 8), random(8), random(8, seed=2))


def test_gates() -> None:
    agree(kernels.swiglu, lambda x: x[..., :4] / (1 + (-x[..., :4]).exp()) * x[..., 4:], random(3, 8))
    agree(kernels.gated_linear_unit, lambda x: x[..., 4:] / (1 + (-x[..., :4]).exp()), random(3, 8))


def test_rotation_keeps_norms_and_sees_only_distances() -> None:
    angle = torch.outer(torch.arange(12.0), torch.tensor([1.0, 0.3, 0.05]))
    q, k = random(1, 1, 1, 6).expand(1, 1, 12, 6), random(1, 1, 1, 6, seed=4).expand(1, 1, 12, 6)
    q, k = (kernels.rotate(x, angle.cos(), angle.sin()) for x in (q, k))
    torch.testing.assert_close(q.norm(dim=-1), q.norm(dim=-1)[..., :1].expand(1, 1, 12))
    scores = (q @ k.transpose(-1, -2))[0, 0]
    for distance in range(-3, 4):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("per_sequence", [False, True])
def test_rope_turns_each_token_by_the_angle_of_its_position(per_sequence: bool) -> None:
    """As complex numbers: channel i plus the imaginary unit times channel i + R/2, turned; the rest of a head stays."""
    positions = torch.tensor([[3, 0, 9, 3], [1, 2, 2, 8]] if per_sequence else [3, 0, 9, 3])
    angle = torch.outer(torch.arange(10.0), torch.tensor([1.0, 0.3]))
    turn = torch.polar(torch.ones_like(angle), angle)[positions]

    def formula(qkv: Tensor) -> Tensor:
        heads = qkv.view(2, 4, 4, 5)  # two heads of q, one of k, one of v, each of width 5
        turned = torch.complex(heads[..., :2], heads[..., 2:4]) * turn.to(torch.complex128).view(-1, 4, 1, 2)
        rotated = torch.cat((turned.real, turned.imag, heads[..., 4:]), -1)
        return torch.cat((rotated[:, :, :3], heads[:, :, 3:]), 2)

    def ours(qkv: Tensor) -> Tensor:
        parts = kernels.rope(qkv, angle.cos(), angle.sin(), 2, 1, positions=positions)
        return torch.cat(parts, 1).transpose(1, 2)

    agree(ours, formula, random(2, 4, 20))


def test_normed_queries_and_keys() -> None:
    angle = torch.outer(torch.arange(4.0), torch.tensor([1.0, 0.3]))

    def formula(qkv: Tensor, one: Tensor, two: Tensor) -> Tensor:
        heads = qkv.view(2, 4, 4, 4)
        gains = torch.stack((one, one, two, torch.ones_like(two)))
        normed = heads / (heads.square().mean(-1, keepdim=True) + 1e-6).sqrt() * gains
        turned = torch.complex(normed[..., :2], normed[..., 2:]) * torch.polar(torch.ones_like(angle), angle)[:, None]
        return torch.cat((torch.cat((turned.real, turned.imag), -1)[:, :, :3], heads[:, :, 3:]), 2)

    def ours(qkv: Tensor, one: Tensor, two: Tensor) -> Tensor:
        parts = kernels.qk_norm_rope(qkv, one, two, angle.cos(), angle.sin(), 2, 1, eps=1e-6)
        return torch.cat(parts, 1).transpose(1, 2)

    agree(ours, formula, random(2, 4, 16), random(4), random(4, seed=1))


def test_attention() -> None:
    def formula(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        return scores.masked_fill(hidden, -math.inf).softmax(-1) @ v

    agree(kernels.causal_attention, formula, *(random(2, 3, 7, 4, seed=s) for s in range(3)))


@pytest.mark.parametrize("bias", [True, False])
def test_linear_cross_entropy_ignores_masked_rows(bias: bool) -> None:
    target = torch.tensor([3, -100, 0, 10])

    def formula(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        logits = x @ w.T + b * bias
        return -logits.log_softmax(-1)[[0, 2, 3], [3, 0, 10]].sum()

    def ours(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return kernels.linear_cross_entropy(x, w, b if bias else None, target) + (0 if bias else 0 * b.sum())

    agree(ours, formula, random(4, 6), random(11, 6), random(11))


@pytest.mark.parametrize("bias", [True, False])
def test_lstm_equals_the_equations(bias: bool) -> None:
    def formula(x: Tensor, h: Tensor, c: Tensor, wi: Tensor, wh: Tensor, bi: Tensor, bh: Tensor) -> Tensor:
        h, c, out = h[0], c[0], []
        for t in range(x.shape[1]):
            gates = x[:, t] @ wi.T + h @ wh.T + (bi + bh) * bias
            i, f, g, o = gates.chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            out.append(h)
        return torch.cat((*out, c), -1)

    def ours(x: Tensor, h: Tensor, c: Tensor, wi: Tensor, wh: Tensor, bi: Tensor, bh: Tensor) -> Tensor:
        y, (last, cell) = kernels.lstm(x, (h, c), (wi, wh), (bi, bh) if bias else None)
        assert torch.equal(y[:, -1], last[0])
        return torch.cat((y.flatten(1), cell[0]), -1) + (0 if bias else 0 * (bi.sum() + bh.sum()))

    agree(ours, formula, random(2, 5, 3), random(1, 2, 4), random(1, 2, 4, seed=1), random(16, 3), random(16, 4),
          random(16), random(16, seed=3))  # fmt: skip
