"""Operations for a CPU: the arithmetic of :mod:`algoprog.kernels.reference` in fewer passes over memory, gradients by hand.

At small widths a step is many short operations. These save what autograd adds to them (copies, slices, gradients put together
from halves) and keep what is large, logits and scores, in the processor's cache. All is PyTorch, nothing is compiled. They
take fp32 and float64, agree with the reference up to rounding, and have no second derivatives.
"""
