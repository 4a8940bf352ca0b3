"""From a model config to a model. A new family is one file, one config class and one line here."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from algoprog.config import Frozen, ModelConfig
from algoprog.flops import FlopCount
from algoprog.models.lstm import LstmModel
from algoprog.models.transformer import Transformer

FAMILIES: dict[str, Callable[..., nn.Module]] = {
    "transformer": Transformer,
    "lstm": LstmModel,
}


def build_model(config: ModelConfig, seed: int, compute_dtype: torch.dtype = torch.float32) -> nn.Module:
    """A freshly initialised model on the CPU. Weights depend on (config, seed) only, not on the device or global RNG."""
    generator = torch.Generator().manual_seed(seed)
    return FAMILIES[config.family](config, generator, compute_dtype)


def parameter_count(config: ModelConfig) -> int:
    """N: all parameters, a tied embedding once. Builds the model without memory."""
    return sum(p.numel() for p in _skeleton(config).parameters())


def model_flops(config: ModelConfig) -> FlopCount:
    """FLOPs of one sequence of ``config.context`` tokens, from the modules' own counts."""
    return _skeleton(config).flops(config.context)  # type: ignore[operator]


def _skeleton(config: ModelConfig) -> nn.Module:
    assert isinstance(config, Frozen)
    with torch.device("meta"):
        return FAMILIES[config.family](config, None, torch.float32)
