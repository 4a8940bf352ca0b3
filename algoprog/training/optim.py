"""Optimisers by name, with explicit weight-decay groups."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from algoprog.config import OptimConfig
from algoprog.kernels import REFERENCE, FlatAdamW, Operations
from algoprog.training.engines import Engine


def build_optimizer(config: OptimConfig, model: nn.Module, operations: Operations = REFERENCE) -> torch.optim.Optimizer:
    """The optimiser of ``config`` over the model's parameters. ``adam`` couples decay into the gradient, ``adamw`` does not.

    With a fused ``adamw_`` among the operations, AdamW works on one buffer, into which the parameters move, and clips by
    itself: see :func:`clip_gradients`.
    """
    groups = decay_groups(config, model)
    if config.name == "adamw" and "adamw_" in operations.record()["fused"]:
        betas, update = (config.beta1, config.beta2), operations.adamw_
        return FlatAdamW(groups, config.lr, betas, config.eps, max_norm=config.clip, update=update)
    if config.name in ("adamw", "adam"):
        cls = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
        on_gpu = next(model.parameters()).is_cuda  # there a step that may be recorded keeps its rate on the device
        betas = (config.beta1, config.beta2)
        return cls(groups, lr=config.lr, betas=betas, eps=config.eps, fused=True, capturable=on_gpu)
    if config.name == "sgd":
        sgd = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
        if config.momentum:
            # PyTorch leaves fresh averages unset if the first step is skipped; from zeros the first step is the same.
            for p in model.parameters():
                sgd.state[p]["momentum_buffer"] = torch.zeros_like(p)
        return sgd
    return torch.optim.RMSprop(groups, lr=config.lr, alpha=config.beta2, eps=config.eps, momentum=config.momentum)


def decay_groups(config: OptimConfig, model: nn.Module) -> list[dict[str, object]]:
    """Parameters that decay and parameters that do not: all of them, or matrices only (``config.decay``)."""
    decayed = [p for p in model.parameters() if config.decay == "all" or p.ndim >= 2]
    spared = [p for p in model.parameters() if config.decay != "all" and p.ndim < 2]
    groups: list[dict[str, object]] = [{"params": decayed, "weight_decay": config.weight_decay}]
    return [*groups, {"params": spared, "weight_decay": 0.0}] if spared else groups


def clip_gradients(config: OptimConfig, optimizer: torch.optim.Optimizer, model: nn.Module) -> Tensor:
    """Clip by the global norm and return the norm before, a scalar. An optimiser that clips while it updates is left alone:
    the tensor returned then holds the norm of this step from its update on."""
    if isinstance(optimizer, FlatAdamW):
        return optimizer.grad_norm
    return nn.utils.clip_grad_norm_(model.parameters(), config.clip or math.inf)


def rate_tensor(optimizer: torch.optim.Optimizer, engine: Engine, rate: Tensor) -> Tensor | None:
    """A scalar on the device that ``optimizer`` can take its learning rate from; None if it must be a number of the host's.

    It is ``rate`` itself, a float64 scalar, so that rates are those that a number would give. PyTorch's fused optimisers read
    fp32 on a GPU: for them it is a scalar of its own, into which every step copies ``rate``.
    """
    flat = isinstance(optimizer, FlatAdamW)
    if engine.capture_obstacle() is not None or not (flat or optimizer.defaults.get("fused")):
        return None
    return rate if flat or rate.device.type == "cpu" else torch.zeros((), dtype=torch.float32, device=rate.device)


def set_lr(optimizer: torch.optim.Optimizer, lr: float | Tensor) -> None:
    """Set the learning rate of every group: a number, or a tensor that the groups then share."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def operations_used(operations: Operations, optimizer: torch.optim.Optimizer) -> dict[str, list[str]]:
    """``{"fused": names, "reference": names}`` as they ran: the update counts as fused only if ``optimizer`` uses it."""
    record = operations.record()
    if "adamw_" in record["fused"] and not isinstance(optimizer, FlatAdamW):
        record["fused"].remove("adamw_")
        record["reference"].append("adamw_")
    return record
