"""Optimisers read each other's state by the names of parameters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from algoprog.config import OptimConfig
from algoprog.kernels import FlatAdamW
from algoprog.training.optim import build_optimizer, decay_groups
from algoprog.training.optimizer_state import join_name, load_named_state, named_state, split_name


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))


def step(net: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
    net(x).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def optimizer_of(kind: str, net: nn.Module) -> torch.optim.Optimizer:
    config = OptimConfig(name="adamw" if kind == "flat" else kind, lr=0.01)  # type: ignore[arg-type]
    if kind == "flat":
        return FlatAdamW(decay_groups(config, net), config.lr, (config.beta1, config.beta2), config.eps)
    return build_optimizer(config, net)


def test_names() -> None:
    assert split_name(join_name("blocks.0.qkv.weight", "exp_avg")) == ("blocks.0.qkv.weight", "exp_avg")
    net = model()
    optimizer = optimizer_of("adamw", net)
    assert named_state(net, optimizer) == {}
    step(net, optimizer, 0)
    names = {join_name(name, key) for name, _ in net.named_parameters() for key in ("step", "exp_avg", "exp_avg_sq")}
    assert set(named_state(net, optimizer)) == names


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("adamw", "adamw"),
        ("adamw", "flat"),
        ("flat", "adamw"),
        ("sgd", "sgd"),
        ("rmsprop", "rmsprop"),
        ("adam", "adam"),
    ],
)
def test_state_moves_between_optimisers(first: str, second: str) -> None:
    """Three steps with one, then two with the other: equal to five with the second's own state."""
    net = model()
    optimizer = optimizer_of(first, net)
    for seed in range(3):
        step(net, optimizer, seed)
    held: dict[str, Tensor] = {name: tensor.clone() for name, tensor in named_state(net, optimizer).items()}
    other = model()
    other.load_state_dict({name: tensor.clone() for name, tensor in net.state_dict().items()})
    moved = optimizer_of(second, other)
    load_named_state(other, moved, held)
    for seed in (3, 4):
        step(net, optimizer, seed)
        step(other, moved, seed)
    exact = first == second
    for (name, p), q in zip(net.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(q, p, rtol=0 if exact else 1e-6, atol=0 if exact else 1e-7, msg=name)


def test_state_of_an_unknown_parameter_is_refused() -> None:
    net = model()
    with pytest.raises(ValueError, match=r"optimizer state of '7\.weight', which the model does not have"):
        load_named_state(net, optimizer_of("adamw", net), {"7.weight/step": torch.ones(())})
