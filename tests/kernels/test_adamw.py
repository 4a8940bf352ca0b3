"""The optimiser over a flat buffer, with the reference update on a CPU: PyTorch's AdamW in every respect but its layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from algoprog.config import OptimConfig
from algoprog.kernels import REFERENCE, Choice, FlatAdamW
from algoprog.kernels.reference import ADAMW_TILE
from algoprog.training.checkpoint import Checkpoints
from algoprog.training.optim import build_optimizer, clip_gradients
from algoprog.training.optimizer_state import load_named_state, named_state
from algoprog.training.state import RunState

SETTINGS: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-8}


def model(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype)


def groups(net: nn.Module) -> list[dict[str, Any]]:
    matrices, vectors = ([p for p in net.parameters() if (p.ndim > 1) == wide] for wide in (True, False))
    return [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0, "lr": 0.02}]


def backward(net: nn.Module, seed: int) -> Tensor:
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(seed)).to(next(net.parameters()).dtype)
    loss: Tensor = net(x).square().sum()
    loss.backward()
    return loss


def run(kind: str, steps: int, dtype: torch.dtype = torch.float32, set_to_none: bool = True) -> tuple[nn.Module, Any]:
    net = model(dtype=dtype)
    flat = kind == "flat"
    optimizer: Any = (
        FlatAdamW(groups(net), **SETTINGS, max_norm=1.0) if flat else torch.optim.AdamW(groups(net), **SETTINGS)
    )
    for s in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * (1 - s / 2000)
        backward(net, s)
        if not flat:
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none)
    return net, optimizer


@pytest.mark.parametrize("steps", [1, 10, 1000])
def test_accuracy_is_at_least_half_that_of_pytorch(steps: int) -> None:
    """Fixed gradients: through a model, rounding would be amplified and tell nothing about the optimiser."""
    start = torch.randn(50, 20, generator=torch.Generator().manual_seed(1)) * 0.02
    made: dict[str, tuple[Tensor, Any]] = {}
    for kind, dtype in (("exact", torch.float64), ("plain", torch.float32), ("flat", torch.float32)):
        p = start.to(dtype, copy=True).requires_grad_()
        how: dict[str, Any] = {**SETTINGS, "weight_decay": 0.1}
        made[kind] = p, (FlatAdamW([p], **how) if kind == "flat" else torch.optim.AdamW([p], **how, fused=True))
    generator = torch.Generator().manual_seed(steps)
    for _ in range(steps):
        g = torch.randn(start.shape, generator=generator) * 0.1 + 0.02
        for p, optimizer in made.values():
            p.grad = g.to(p.dtype, copy=True)
            optimizer.step()
    truth = made["exact"][0].detach()
    error, allowed = ((made[k][0].detach().double() - truth).norm() / truth.norm() for k in ("flat", "plain"))
    assert allowed < 1e-4
    assert error <= 2 * allowed, f"{error:.2e}, PyTorch {allowed:.2e}"


@pytest.mark.parametrize("set_to_none", [True, False])
def test_training_equals_pytorch_in_double_precision(set_to_none: bool) -> None:
    """Groups with rates and decays of their own, clipping, changing learning rates."""
    (ours, _), (theirs, _) = (run(kind, 30, torch.float64, set_to_none) for kind in ("flat", "plain"))
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-9)  # rates reach the buffer in the type of the weights


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=5),
    beta1=st.sampled_from([0.0, 0.3, 0.9]),
    beta2=st.sampled_from([0.0, 0.95, 0.999]),
    max_norm=st.sampled_from([None, 0.1, 1e6]),
)
def test_any_sizes_and_betas(sizes: list[int], beta1: float, beta2: float, max_norm: float | None) -> None:
    generator = torch.Generator().manual_seed(sum(sizes))
    values = [torch.randn(n, generator=generator, dtype=torch.float64) for n in sizes]
    ours, theirs = ([v.clone().requires_grad_() for v in values] for _ in range(2))
    how: dict[str, Any] = {"lr": 0.01, "betas": (beta1, beta2), "eps": 1e-3, "weight_decay": 0.1}
    flat, plain = FlatAdamW(ours, **how, max_norm=max_norm), torch.optim.AdamW(theirs, **how)
    for _ in range(2):
        drawn = [torch.randn(n, generator=generator, dtype=torch.float64) for n in sizes]
        for params in (ours, theirs):
            for p, g in zip(params, drawn, strict=True):
                p.grad = g.clone()
        norm = nn.utils.clip_grad_norm_(theirs, max_norm or float("inf"))
        flat.step()
        plain.step()
        torch.testing.assert_close(flat.grad_norm, norm)
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)
    outside = flat._param.clone()
    for p in ours:
        flat._view(outside, p).zero_()
    assert not outside.any(), "padding must stay zero"


def test_the_schedule_and_clipping_are_part_of_the_step() -> None:
    factors = [0.1, 0.5, 1.0]
    nets = [model(), model()]
    ours = FlatAdamW(nets[0].parameters(), **SETTINGS, max_norm=0.5, factors=factors)
    theirs = torch.optim.AdamW(nets[1].parameters(), **SETTINGS)
    for s in range(5):
        for net in nets:
            backward(net, s)
        norm = nn.utils.clip_grad_norm_(nets[1].parameters(), 0.5)
        theirs.param_groups[0]["lr"] = 0.01 * factors[min(s, 2)]
        ours.step()
        theirs.step()
        torch.testing.assert_close(ours.grad_norm, norm)
        ours.zero_grad()
        theirs.zero_grad()
    for p, q in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("first", "second"), [("flat", "plain"), ("plain", "flat"), ("flat", "flat")])
def test_state_dicts_are_exchangeable_with_pytorch(first: str, second: str) -> None:
    """Five steps by one, its state into the other, five steps more: as ten of either."""
    wanted, _ = run("plain", 10, torch.float64)
    before, optimizer = run(first, 5, torch.float64)
    net = model(seed=3, dtype=torch.float64)
    after: Any = (
        FlatAdamW(groups(net), **SETTINGS, max_norm=1.0)
        if second == "flat"
        else torch.optim.AdamW(groups(net), **SETTINGS)
    )
    net.load_state_dict(before.state_dict())
    after.load_state_dict(optimizer.state_dict())
    for s in range(5, 10):
        for group in after.param_groups:
            group["lr"] = group["lr"] * (1 - s / 2000)
        backward(net, s)
        if second == "plain":
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        after.step()
        after.zero_grad()
    for p, q in zip(net.parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-9)


def test_a_checkpoint_holds_it_and_a_resumed_run_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    straight, _ = run("flat", 8)
    net, optimizer = run("flat", 5)
    checkpoints = Checkpoints(tmp_path, "digest")
    checkpoints.save(RunState(5, dict(net.state_dict()), named_state(net, optimizer)))
    net = model(seed=4)
    optimizer = FlatAdamW(groups(net), **SETTINGS, max_norm=1.0)
    places = [p.data_ptr() for p in net.parameters()]
    state = checkpoints.restore()
    assert state is not None
    net.load_state_dict(state.model)
    load_named_state(net, optimizer, state.optimizer)
    assert [p.data_ptr() for p in net.parameters()] == places
    for group in optimizer.param_groups:  # rates are not part of a checkpoint: the schedule gives them
        for s in range(5):
            group["lr"] = group["lr"] * (1 - s / 2000)
    for s in range(5, 8):
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * (1 - s / 2000)
        backward(net, s)
        optimizer.step()
        optimizer.zero_grad()
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), straight.parameters(), strict=True))


def test_a_loss_that_is_not_finite_stops_the_step() -> None:
    net = model()
    optimizer = FlatAdamW(net.parameters(), **SETTINGS, shadow=torch.bfloat16)
    before = [p.detach().clone() for p in net.parameters()]
    loss = backward(net, 0)
    optimizer.step(loss=loss * float("nan"))
    assert int(optimizer.ok) == 0
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    optimizer.step(loss=loss)
    assert int(optimizer.ok) == 1 and optimizer.state_dict()["state"][0]["step"] == 1
    for p, q in zip(net.parameters(), before, strict=True):
        assert not torch.equal(p, q)
        assert torch.equal(optimizer.shadow_of(p), p.to(torch.bfloat16))


@pytest.mark.parametrize("watched", [False, True])
def test_a_warm_up_is_no_step(watched: bool) -> None:
    """The update runs, once and on the very buffers, and leaves every bit as it was."""
    net, calls = model(), list[tuple[Any, ...]]()

    def update(*args: Any) -> None:
        calls.append(args)
        REFERENCE.adamw_(*args)

    optimizer = FlatAdamW(groups(net), **SETTINGS, max_norm=1.0, shadow=torch.bfloat16, update=update)
    loss = backward(net, 0)
    optimizer.step(loss=loss)
    loss = backward(net, 1)
    tensors = [x for x in calls[0] if isinstance(x, Tensor)]
    before = [x.clone() for x in tensors]
    optimizer.warm_up(loss if watched else None)
    assert len(calls) == 2 and (calls[1][12] is not None) == watched
    assert calls[1][11].data_ptr() == calls[0][11].data_ptr()
    for got, kept in zip(tensors[:-1], before[:-1], strict=True):  # but for the loss, which is the caller's
        assert torch.equal(got, kept)
    assert int(optimizer.ok) == 1 and optimizer.grad_norm.isfinite()


def test_parameters_start_where_wide_accesses_may_and_groups_on_a_tile() -> None:
    net = model()
    optimizer = FlatAdamW(groups(net), **SETTINGS)
    base = optimizer._param.data_ptr()
    starts = [(p.data_ptr() - base) // 4 for group in optimizer.param_groups for p in group["params"]]
    assert starts == [0, 64, ADAMW_TILE, ADAMW_TILE + 64]
    assert optimizer._tile_group.tolist() == [0, 1]


def test_closure_and_scheduler_work_as_with_any_optimizer() -> None:
    net = model()
    optimizer = FlatAdamW(net.parameters(), **SETTINGS)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    loss = optimizer.step(lambda: backward(net, 0))
    scheduler.step()
    optimizer.step(lambda: backward(net, 1))
    assert loss > 0 and optimizer._rates["lr"].tolist() == [0.005]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"betas": (1.0, 0.9)}, r"betas: expected numbers in \[0, 1\), got 1.0"),
        ({"eps": 0.0}, "eps: expected a number above 0"),
        ({"lr": -0.1}, "lr: expected a number of at least 0"),
        ({"max_norm": -1.0}, "max_norm: expected a number above 0"),
        ({"factors": []}, "factors: expected at least one"),
    ],
)
def test_bad_settings(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"FlatAdamW: {message}"):
        FlatAdamW(model().parameters(), **arguments)


def test_bad_parameters_gradients_and_states() -> None:
    p, q = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="params: expected float32 or float64 on one device"):
        FlatAdamW([p, q])
    with pytest.raises(ValueError, match="betas: expected the same in every group"):
        FlatAdamW([{"params": [p]}, {"params": [nn.Parameter(torch.zeros(2))], "betas": (0.1, 0.2)}])
    optimizer = FlatAdamW([p])
    p.grad = None
    with pytest.raises(ValueError, match="expected a gradient for each, got None at 0"):
        optimizer.step()
    with pytest.raises(ValueError, match="expected all of them at construction"):
        optimizer.add_param_group({"params": [q]})
    with pytest.raises(ValueError, match="shadow: expected a type at construction"):
        optimizer.shadow_of(p)
    with pytest.raises(ValueError, match="expected step, exp_avg and exp_avg_sq, got .'momentum_buffer'."):
        optimizer.load_state_dict({"state": {0: {"momentum_buffer": p}}, "param_groups": []})


def test_runs_with_fused_kernels_get_it_and_it_clips_by_itself() -> None:
    fused = replace(REFERENCE, choices=(Choice("adamw_", "fused", "pretended"),))
    config = OptimConfig(lr=0.01, weight_decay=0.1, decay="matrices", clip=0.5)
    nets = [model(), model()]
    made = [build_optimizer(config, net, operations) for net, operations in zip(nets, (fused, REFERENCE), strict=True)]
    assert [type(optimizer) for optimizer in made] == [FlatAdamW, torch.optim.AdamW]
    for s in range(3):
        norms = []
        for net, optimizer in zip(nets, made, strict=True):
            backward(net, s)
            norms.append(clip_gradients(config, optimizer, net))
            optimizer.step()
            optimizer.zero_grad()
        torch.testing.assert_close(*norms)
    for p, q in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)
    sgd = build_optimizer(OptimConfig(lr=0.01, name="sgd"), model(), fused)
    assert type(sgd) is torch.optim.SGD
