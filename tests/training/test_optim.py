"""Optimisers do one step as their papers write it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from algoprog.config import OptimConfig
from algoprog.training.optim import build_optimizer, decay_groups, set_lr


def one_step(**settings: object) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(weight before, weight after, gradient) of a linear layer under weight decay 0.1 and lr 0.5."""
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(OptimConfig.model_validate({"lr": 0.5, "weight_decay": 0.1, **settings}), model)
    before = model.weight.detach().clone()
    model(torch.tensor([[1.0, -2.0, 3.0]])).sum().backward()
    gradient = model.weight.grad.clone()
    optimizer.step()
    return before, model.weight.detach(), gradient


def test_adamw_decouples_decay_and_adam_does_not() -> None:
    before, after, gradient = one_step(name="adamw")
    torch.testing.assert_close(after, before * (1 - 0.05) - 0.5 * gradient.sign(), rtol=1e-5, atol=1e-6)
    before, after, gradient = one_step(name="adam")
    coupled = gradient + 0.1 * before
    torch.testing.assert_close(after, before - 0.5 * coupled.sign(), rtol=1e-5, atol=1e-6)


def test_sgd_and_rmsprop() -> None:
    before, after, gradient = one_step(name="sgd")
    torch.testing.assert_close(after, before - 0.5 * (gradient + 0.1 * before))
    before, after, gradient = one_step(name="rmsprop", weight_decay=0.0, momentum=0.0, beta2=0.9)
    torch.testing.assert_close(after, before - 0.5 * gradient / (gradient.abs() * 0.1**0.5), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("decay", "decayed"), [("all", 2), ("matrices", 1)])
def test_decay_groups_cover_every_parameter_once(decay: str, decayed: int) -> None:
    model = nn.Linear(3, 2)
    groups = decay_groups(OptimConfig.model_validate({"lr": 1.0, "decay": decay}), model)
    assert len(groups[0]["params"]) == decayed
    assert sorted(p.numel() for g in groups for p in g["params"]) == [2, 6]


def test_set_lr_reaches_all_groups() -> None:
    optimizer = build_optimizer(OptimConfig(lr=1.0, decay="matrices"), nn.Linear(3, 2))
    set_lr(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
