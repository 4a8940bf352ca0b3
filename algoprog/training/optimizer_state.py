"""Optimiser state as named tensors per parameter, the one form in which engines and optimisers read each other's.

A name is ``PARAMETER/KEY``: ``blocks.0.attention.qkv.weight/exp_avg``. Keys are those of :mod:`torch.optim`; a number that an
optimiser keeps per parameter, such as ``step``, is a tensor without dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def join_name(parameter: str, key: str) -> str:
    """The name of the state ``key`` of a parameter."""
    return f"{parameter}/{key}"


def split_name(name: str) -> tuple[str, str]:
    """The inverse of :func:`join_name`."""
    parameter, _, key = name.rpartition("/")
    return parameter, key


def named_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of ``optimizer`` over the parameters of ``model``; empty before its first step. Tensors are not copied."""
    names = _names_in_order(model, optimizer)
    state: Mapping[int, Mapping[str, Any]] = optimizer.state_dict()["state"]
    return {
        join_name(names[index], key): torch.as_tensor(value)
        for index, entry in state.items()
        for key, value in entry.items()
        if value is not None
    }


def load_named_state(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put such state into ``optimizer``. Learning rates and other settings stay as they are.

    Raises:
        ValueError: state of a parameter that the model does not have.
    """
    index_of = {name: index for index, name in enumerate(_names_in_order(model, optimizer))}
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        parameter, key = split_name(name)
        if parameter not in index_of:
            raise ValueError(f"optimizer state of {parameter!r}, which the model does not have")
        state.setdefault(index_of[parameter], {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


@torch.no_grad()
def rest(optimizer: torch.optim.Optimizer) -> None:
    """Make it as if it had taken no step, in the tensors that it has: every optimiser of ours starts from zeros."""
    optimizer.zero_grad()
    for entry in optimizer.state.values():
        for value in entry.values():
            if isinstance(value, Tensor):
                value.zero_()


def _names_in_order(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """The name of each parameter of ``optimizer`` in the order of its groups, which numbers the entries of its state dict."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
