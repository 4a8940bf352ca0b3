"""What the LSTM means: the step-by-step reference against autograd and PyTorch's operator, and what masks stand for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from algoprog.kernels import reference

State = tuple[Tensor, Tensor]


def problem(
    B: int, T: int, inputs: int, H: int, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, State, State, State]:
    """x, state, weights, biases: leaves with gradients."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=generator, dtype=torch.float64) * 0.6).to(dtype).requires_grad_()

    return (
        draw(B, T, inputs),
        (draw(1, B, H), draw(1, B, H)),
        (draw(4 * H, inputs), draw(4 * H, H)),
        (draw(4 * H), draw(4 * H)),
    )


def leaves(x: Tensor, *pairs: State) -> list[Tensor]:
    return [x, *(part for pair in pairs for part in pair)]


def everything(function: Any, args: Any, **options: Any) -> list[Tensor]:
    """Outputs, states and all gradients for one fixed upstream gradient."""
    y, (h, c) = function(*args, **options)
    up = [torch.randn(o.shape, generator=torch.Generator().manual_seed(i)).to(o) for i, o in enumerate((y, h, c))]
    return [y, h, c, *torch.autograd.grad((y, h, c), leaves(*args), up)]


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_by_finite_differences(masked: bool) -> None:
    x, state, weights, biases = problem(2, 4, 2, 3)
    options: dict[str, Any] = {}
    if masked:
        options = {"keep": torch.tensor([[1, 1, 0, 1], [0, 1, 1, 1]]).bool(), "lengths": torch.tensor([4, 2])}

    def run(x: Tensor, h: Tensor, c: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        y, after = reference.lstm_steps(x, (h, c), rest[:2], rest[2:], **options)  # type: ignore[arg-type]
        return y, *after

    assert torch.autograd.gradcheck(run, leaves(x, state, weights, biases))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 4), st.integers(1, 9), st.integers(1, 5), st.integers(1, 6), st.integers(0, 99), st.integers(1, 10)
)
def test_steps_equal_pytorchs_operator(B: int, T: int, inputs: int, H: int, seed: int, bptt: int) -> None:
    args = problem(B, T, inputs, H, seed)
    steps = everything(reference.lstm_steps, args, bptt=bptt)
    library = everything(reference.lstm, args, bptt=bptt)
    for a, b in zip(steps, library, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_truncation_changes_gradients_and_no_values() -> None:
    args = problem(2, 9, 3, 4)
    whole, cut = (everything(reference.lstm_steps, args, bptt=bptt) for bptt in (None, 4))
    assert all(torch.equal(a, b) for a, b in zip(whole[:3], cut[:3], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(whole[3:], cut[3:], strict=True))
    y, _ = reference.lstm_steps(*args, bptt=4)
    (dx,) = torch.autograd.grad(y[:, 8].sum(), args[0])
    assert (dx[:, :8] == 0).all() and (dx[:, 8] != 0).all()


def test_a_reset_starts_a_sequence_over() -> None:
    x, state, weights, biases = problem(2, 6, 3, 4)
    keep = torch.ones(2, 6, dtype=torch.bool)
    keep[1, 4] = False
    zeros = (torch.zeros(1, 2, 4, dtype=torch.float64),) * 2
    y, (h, _) = reference.lstm(x, state, weights, biases, keep=keep)
    fresh, (h_fresh, _) = reference.lstm(x[:, 4:], zeros, weights, biases)
    plain, _ = reference.lstm(x, state, weights, biases)
    torch.testing.assert_close(y[0], plain[0])
    torch.testing.assert_close((y[1, 4:], h[0, 1]), (fresh[1], h_fresh[0, 1]))
    (dx,) = torch.autograd.grad(y[1, 4:].sum(), x)
    assert (dx[1, :4] == 0).all()


def test_lengths_equal_packed_sequences() -> None:
    x, state, weights, biases = problem(3, 6, 3, 4)
    lengths = torch.tensor([6, 1, 4])
    module = torch.nn.LSTM(3, 4, batch_first=True).double()
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), (*weights, *biases), strict=True):
            parameter.copy_(value)
    packed, (h, c) = module(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False), state)
    expected = pad_packed_sequence(packed, batch_first=True)[0]
    y, after = reference.lstm(x, state, weights, biases, lengths=lengths)
    torch.testing.assert_close((y, *after), (expected, h, c))
    up = torch.randn_like(y)
    ours = torch.autograd.grad((y, *after), (x, *state), (up, h, c), retain_graph=True)
    theirs = torch.autograd.grad((expected, h, c), (x, *state), (up, h.detach(), c.detach()))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_windows_are_those_of_a_loop_bit_for_bit(dtype: torch.dtype) -> None:
    """``bptt`` is what a loop over windows with detached states gives, also in the gradients of fp32 weights."""
    x, state, weights, biases = problem(3, 10, 4, 8, dtype=torch.float32)
    y, last = reference.lstm(x.to(dtype), state, weights, biases, bptt=4)
    pieces, hidden = [], state
    for window in torch.split(x.to(dtype), 4, dim=1):
        piece, hidden = reference.lstm(window, hidden, weights, biases)
        hidden = (hidden[0].detach(), hidden[1].detach())
        pieces.append(piece)
    assert torch.equal(y, torch.cat(pieces, 1)) and torch.equal(last[1], hidden[1])
    ours = torch.autograd.grad(y.float().square().sum(), (x, *weights, *biases))
    theirs = torch.autograd.grad(torch.cat(pieces, 1).float().square().sum(), (x, *weights, *biases))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
