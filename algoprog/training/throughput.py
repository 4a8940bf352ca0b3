"""How fast a run was, and what share of the machine it used, in three definitions.

``mfu_causal`` is exact-causal FLOPs over time and peak; ``mfu_full`` counts all T x T score pairs and every parameter, as
Chowdhery et al. 2022 (appendix B) and torchtitan do, for comparison with their figures; ``roofline_share`` is the least time
that the shape allows on this device (Williams et al. 2009: the larger of FLOPs over peak and bytes over bandwidth, product
by product) over the time taken. On a device whose peak is not known all three are None, shown as n/a.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from algoprog.config import ModelConfig, RunConfig
from algoprog.flops.conventions import DEFAULT, per_sequence
from algoprog.flops.count import causal_pairs
from algoprog.flops.peaks import Peak, peak_of
from algoprog.models import build_skeleton, flop_facts
from algoprog.models.layers import CausalSelfAttention, Linear, VocabularyHead
from algoprog.models.lstm import LstmLayer

BYTES = {"bf16": 2, "fp32": 4}


@dataclass(frozen=True)
class Throughput:
    """Of the training steps of one attempt, its first step included; ``devices`` of one kind share the work."""

    tokens_per_s: float
    flops_per_s: float
    device: str
    devices: int
    mfu_causal: float | None
    mfu_full: float | None
    roofline_share: float | None
    peak_source: str | None

    def as_json(self) -> dict[str, Any]:
        """As a run's record keeps it."""
        return asdict(self)


def device_name(device: torch.device) -> str:
    """The name under which the driver knows a GPU; "cpu" otherwise."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def measure(config: RunConfig, device: str, devices: int, steps: int, seconds: float) -> Throughput | None:
    """Rates of ``steps`` training steps that took ``seconds``; None where no step was taken."""
    if steps == 0 or seconds <= 0:
        return None
    flops = per_sequence(flop_facts(config.model))
    sequences_per_s = config.batch * steps / seconds
    peak = peak_of(device)
    shares: tuple[float | None, float | None, float | None] = (None, None, None)
    if peak is not None:
        whole = peak.flops_per_s[config.precision] * devices
        least = least_seconds(config.model, config.batch / devices, config.precision, peak)
        shares = (
            sequences_per_s * flops[DEFAULT] / whole,
            sequences_per_s * flops["full_attention"] / whole,
            None if least is None else least * steps / seconds,
        )
    return Throughput(
        tokens_per_s=sequences_per_s * config.model.context,
        flops_per_s=sequences_per_s * flops[DEFAULT],
        device=device,
        devices=devices,
        mfu_causal=shares[0],
        mfu_full=shares[1],
        roofline_share=shares[2],
        peak_source=peak.source if peak else None,
    )


def least_seconds(model: ModelConfig, sequences: float, precision: str, peak: Peak) -> float | None:
    """Lower bound on the seconds of a training step of ``sequences`` sequences on one device; None for unknown layers.

    Every product reads its operands and writes its result once; scores and logits never reach memory; elementwise work is
    fused away, the optimiser and the order of recurrent steps are ignored.
    """
    with torch.device("meta"):
        skeleton = build_skeleton(model)
    tokens = sequences * model.context
    bound, covered = 0.0, 0
    for module in skeleton.modules():
        for flops, elements in _products(module, tokens, model.context):
            seconds = (flops / peak.flops_per_s[precision], elements * BYTES[precision] / peak.bytes_per_s)
            bound += max(seconds)
        covered += _matrix_elements(module)
    gathered = sum(p.numel() for name, p in skeleton.named_parameters() if name in ("embedding", "positions"))
    matrices = sum(p.numel() for p in skeleton.parameters() if p.ndim >= 2)
    return bound if covered + gathered == matrices else None


def _products(module: nn.Module, tokens: float, context: int) -> list[tuple[float, float]]:
    """(FLOPs, elements moved) of each product of a training step that the module itself makes."""
    if isinstance(module, Linear):
        return _linear(tokens, *module.weight.shape)
    if isinstance(
        module, VocabularyHead
    ):  # logits stay on the chip: only hidden states, weights and their gradients move
        flops, moved = 2 * tokens * module.width * module.vocab, module.width * (tokens + module.vocab)
        return [(flops, moved), (2 * flops, 2 * moved)]
    if isinstance(module, LstmLayer):
        return _linear(tokens, 4 * module.width, module.width) + _linear(tokens, 4 * module.width, module.width)
    if isinstance(module, CausalSelfAttention):
        flops = 4 * module.width * tokens / context * causal_pairs(context)
        return [(flops, 4 * tokens * module.width), (2 * flops, 8 * tokens * module.width)]
    return []


def _linear(tokens: float, outputs: int, inputs: int) -> list[tuple[float, float]]:
    """Forward, gradient of the input, gradient of the weight: each moves the same three matrices."""
    product = (2 * tokens * inputs * outputs, tokens * (inputs + outputs) + inputs * outputs)
    return [product] * 3


def _matrix_elements(module: nn.Module) -> int:
    """Matrix entries of the parameters that :func:`_products` accounts for."""
    if isinstance(module, Linear | LstmLayer | VocabularyHead):
        return sum(p.numel() for p in module.parameters(recurse=False) if p.ndim >= 2)
    return 0
