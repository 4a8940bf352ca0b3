"""The operations that every model is built from, imported as ``algoprog.kernels``.

Each name here is one operation with one meaning. :mod:`algoprog.kernels.reference` states it in plain PyTorch;
:mod:`algoprog.kernels.fused` has Triton implementations, held to the reference by tests. :func:`select` picks one per
operation for a device; the functions exported here are the reference. Importing this package needs no triton.
"""

from algoprog.kernels.adamw import FlatAdamW
from algoprog.kernels.dispatch import REFERENCE, Choice, Operations, Unavailable, describe, select
from algoprog.kernels.lstm import LSTM
from algoprog.kernels.reference import (
    adamw_,
    add_layer_norm,
    add_rms_norm,
    causal_attention,
    gated_linear_unit,
    gelu,
    layer_norm,
    linear_cross_entropy,
    lstm,
    qk_norm_rope,
    relu,
    rms_norm,
    rope,
    rotate,
    swiglu,
)
from algoprog.kernels.warmup import compilations, warm_up

__all__ = [
    "LSTM",
    "REFERENCE",
    "Choice",
    "FlatAdamW",
    "Operations",
    "Unavailable",
    "adamw_",
    "add_layer_norm",
    "add_rms_norm",
    "causal_attention",
    "compilations",
    "describe",
    "gated_linear_unit",
    "gelu",
    "layer_norm",
    "linear_cross_entropy",
    "lstm",
    "qk_norm_rope",
    "relu",
    "rms_norm",
    "rope",
    "rotate",
    "select",
    "swiglu",
    "warm_up",
]
