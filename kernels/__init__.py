"""The operations that every model is built from, imported as ``algoprog.kernels``.

Each name here is one operation with one meaning. :mod:`algoprog.kernels.reference` states it in plain PyTorch; fused
implementations stand behind the same names and are held to the reference by tests.
"""

from algoprog.kernels.reference import (
    causal_attention,
    gated_linear_unit,
    layer_norm,
    linear_cross_entropy,
    lstm,
    rms_norm,
    rotate,
    swiglu,
)

__all__ = [
    "causal_attention",
    "gated_linear_unit",
    "layer_norm",
    "linear_cross_entropy",
    "lstm",
    "rms_norm",
    "rotate",
    "swiglu",
]
