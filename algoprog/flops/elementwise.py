"""Work that is not a matrix product: norms, activations, softmax, gates, biases, residuals.

It is outside model FLOPs and kept for those who want it. One FLOP is one addition, subtraction, multiplication, division,
comparison, exponential, logarithm, error function, hyperbolic tangent, square root or reciprocal square root of the plain
definition; copies, gathers and conversions are free. The backward pass counts the derivative with the forward values at
hand (sigmoids, normalised inputs without their gain, probabilities). What a fused kernel executes may differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from algoprog.flops.count import FlopCount


@dataclass(frozen=True)
class Cost:
    """FLOPs per element and, for reductions, per row; forward and backward."""

    forward: int
    backward: int
    row_forward: int = 0
    row_backward: int = 0


COSTS: dict[str, Cost] = {
    # square, sum, times 1/rms, gain; row: mean, eps, rsqrt.  Back: dy w; dw 2; mean of g n 2; r (g - n m) 3; row: mean.
    "rms_norm": Cost(4, 8, 3, 1),
    # sum, centre, square, sum, scale, gain; row: 2 means, eps, rsqrt.  Back: dy w; dw 2; mean g 1; g n 2; r (g - a - n b) 4.
    "layer_norm": Cost(6, 10, 4, 2),
    # sigmoid 4 (negate, exp, add, divide), times x, times up.  Back: d up 1; d gate: dy up 1, s (1 + x (1 - s)) 4, product 1.
    "swiglu": Cost(6, 7),
    # sigmoid 4, times up.  Back: d up 1; d gate: dy up, 1 - s, two products.
    "glu": Cost(5, 5),
    # x / sqrt 2, erf, add 1, halve, times x.  Back: Phi(x) kept; x^2, times -1/2, exp, constant, times x, add, times dy.
    "gelu": Cost(5, 7),
    "relu": Cost(1, 1),
    # Two products and a sum per rotated element, in both directions.
    "rotary": Cost(3, 3),
    # Per visible pair and head: scale, maximum, subtract, exp, sum, divide.  Back: P dP 1, sum 1, subtract, times P, scale.
    "softmax": Cost(6, 5),
    # Per logit: maximum, subtract, exp, sum; row: log, two subtractions.  Back: divide, times dy; row: minus one at the target.
    "cross_entropy": Cost(4, 2, 3, 1),
    # Per hidden unit: 4 sums of the two products, 3 sigmoids of 4, 2 tanh, f c + i g 3, o tanh c 1.
    # Back: do 1; dc: dh o (1 - tanh^2) 4 and one sum; di, df, dg, dc' 4; 4 gate derivatives of 3; dh of two sources 1.
    "lstm_cell": Cost(22, 23),
    # One addition per element; the gradient is a sum over rows (bias) or of two branches (residual).
    "bias": Cost(1, 1),
    "residual": Cost(1, 1),
    # The gradient of a gathered table is a scattered sum.
    "embedding": Cost(0, 1),
    "embedding_scale": Cost(1, 1),
    # Times a mask of zeros and ones, divided by the probability of staying.
    "dropout": Cost(2, 2),
    # A fixed table is added; a learned one also receives a gradient.
    "fixed_positions": Cost(1, 0),
    "learned_positions": Cost(1, 1),
}


def elementwise_flops(operation: str, elements: int, rows: int = 0) -> FlopCount:
    """FLOPs of ``operation`` (a key of :data:`COSTS`) on ``elements`` elements in ``rows`` rows."""
    cost = COSTS[operation]
    return FlopCount(
        {"elementwise": cost.forward * elements + cost.row_forward * rows},
        {"elementwise": cost.backward * elements + cost.row_backward * rows},
    )
