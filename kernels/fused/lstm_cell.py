"""What the LSTM kernels share: activations, products and loads of the four gates.

Sigmoid and tanh are exact to fp32 rounding and cannot overflow. For bf16 storage on a GPU both are one ``tanh.approx``, whose
relative error is 2^-11 (PTX ISA, "tanh"), an eighth of a rounding to bf16.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tanh(x, FAST: tl.constexpr):
    """FAST needs inline assembly, which the interpreter does not know."""
    if FAST:
        y = tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
    else:
        # 2 / (1 + e^-2x) - 1 never forms inf / inf, but near 0, where a small initialisation puts every gate, it loses the
        # leading digits; below 0.55 an odd polynomial (least squares in relative error, 3e-7) takes its place.
        u = x * x
        p = x * (0.99999996764 + u * (-0.33332795009 + u * (0.13318876681 + u * (-0.05258930747 + u * 0.01631542332))))
        y = tl.where(tl.abs(x) < 0.55, p, 2.0 / (1.0 + tl.exp2(x * -2.8853900817779268)) - 1.0)
    return y


@triton.jit
def sigmoid(x, FAST: tl.constexpr):
    """``1 / (1 + e^-x)``; e^-x may be inf, then the result is 0."""
    if FAST:
        y = tanh(x * 0.5, FAST) * 0.5 + 0.5
    else:
        y = 1.0 / (1.0 + tl.exp2(x * -1.4426950408889634))
    return y


@triton.jit
def dot(a, b, acc, UPCAST: tl.constexpr):
    """``a @ b + acc`` in fp32; fp32 operands are multiplied as such, not as TF32."""
    if UPCAST:  # the interpreter multiplies the bit patterns of bf16 operands
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision="ieee")


@triton.jit
def load(pointer, inside, WHOLE: tl.constexpr):
    """A tile, zero outside; WHOLE says that nothing is outside, and no mask is evaluated."""
    if WHOLE:
        x = tl.load(pointer)
    else:
        x = tl.load(pointer, mask=inside, other=0.0)
    return x


@triton.jit
def load_gates(pointer, inside, H: tl.constexpr):
    """The tiles of i, f, g and o, H apart."""
    return (
        tl.load(pointer, mask=inside, other=0.0),
        tl.load(pointer + H, mask=inside, other=0.0),
        tl.load(pointer + 2 * H, mask=inside, other=0.0),
        tl.load(pointer + 3 * H, mask=inside, other=0.0),
    )


@triton.jit
def store_gates(pointer, i, f, g, o, inside, H: tl.constexpr):
    """The tiles of i, f, g and o to places H apart, in the type of the memory."""
    kind = pointer.dtype.element_ty
    tl.store(pointer, i.to(kind), mask=inside)
    tl.store(pointer + H, f.to(kind), mask=inside)
    tl.store(pointer + 2 * H, g.to(kind), mask=inside)
    tl.store(pointer + 3 * H, o.to(kind), mask=inside)


@triton.jit
def gate_gradients(dh, dc, pre_i, pre_f, pre_g, pre_o, c, before, FAST: tl.constexpr):
    """(di, df, dg, do, dc f): gradients of the pre-activations and of c_{t-1}, from those of h_t and c_t.

    c = c_t and before = c_{t-1} as this step saw it, after any reset.
    """
    i, f = sigmoid(pre_i.to(tl.float32), FAST), sigmoid(pre_f.to(tl.float32), FAST)
    g, o = tanh(pre_g.to(tl.float32), FAST), sigmoid(pre_o.to(tl.float32), FAST)
    squashed = tanh(c, FAST)
    dc += dh * o * (1.0 - squashed * squashed)
    di = dc * g * i * (1.0 - i)
    df = dc * before * f * (1.0 - f)
    dg = dc * i * (1.0 - g * g)
    do = dh * squashed * o * (1.0 - o)
    return di, df, dg, do, dc * f
