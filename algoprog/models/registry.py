"""From a model config to a model. A new family is one file, one config class and one line here."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from algoprog.config import Frozen, ModelConfig, PluginConfig
from algoprog.flops import FlopCount
from algoprog.flops.conventions import Facts
from algoprog.kernels import REFERENCE, Operations
from algoprog.models.lstm import LstmModel
from algoprog.models.plugin import Plugin, check_plugin, facts_of
from algoprog.models.transformer import Transformer

FAMILIES: dict[str, Callable[..., nn.Module]] = {
    "transformer": Transformer,
    "lstm": LstmModel,
    "plugin": Plugin,
}


def build_model(
    config: ModelConfig, seed: int, compute_dtype: torch.dtype = torch.float32, operations: Operations = REFERENCE
) -> nn.Module:
    """A freshly initialised model on the CPU. Weights depend on (config, seed) only, not on the device or global RNG.

    ``operations`` are those of the device that the model will run on (:func:`algoprog.kernels.select`).
    """
    generator = torch.Generator().manual_seed(seed)
    return FAMILIES[config.family](config, generator, compute_dtype, operations)


def parameter_count(config: ModelConfig) -> int:
    """N: all parameters, a tied embedding once. Builds the model without memory."""
    return sum(p.numel() for p in _on_meta(config).parameters())


def model_flops(config: ModelConfig, recompute: bool = False) -> FlopCount:
    """FLOPs of one sequence of ``config.context`` tokens, from the modules' own counts.

    With ``recompute``, of a model whose blocks run again in the backward pass: more under that name, nothing else changes.
    """
    return flop_facts(config, recompute).count


@cache  # a plan asks for the same shape many times over
def flop_facts(config: ModelConfig, recompute: bool = False) -> Facts:
    """FLOPs and parameters of one sequence of ``config.context`` tokens, as :mod:`algoprog.flops.conventions` needs them."""
    model = _on_meta(config)
    model.recompute = recompute  # type: ignore[assignment]
    if isinstance(config, PluginConfig):
        assert isinstance(model, Plugin)
        check_plugin(config)
        params = sum(p.numel() for p in model.parameters())
        count = model.flops(config.context)
        return Facts(count, config.context, params, attention_heads=0, **facts_of(model, config))
    table = model.get_parameter("embedding")
    positions = getattr(model, "positions", None)
    placed = 0 if positions is None else positions.numel()
    return Facts(
        count=model.flops(config.context),  # type: ignore[operator]
        tokens=config.context,
        params=sum(p.numel() for p in model.parameters()),
        input_params=placed + (0 if config.tied else table.numel()),
        table_params=table.numel(),
        attention_heads=sum(getattr(module, "heads", 0) for module in model.modules()),
        tied=config.tied,
    )


def build_skeleton(config: ModelConfig) -> nn.Module:
    """A model without initial values, for counting: on the device, real or not, that is the default where it is called."""
    assert isinstance(config, Frozen)
    return FAMILIES[config.family](config, None, torch.float32)


def _on_meta(config: ModelConfig) -> nn.Module:
    with torch.device("meta"):
        return build_skeleton(config)
