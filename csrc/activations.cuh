// Gate nonlinearities in fp32. Finite for every finite input.
#pragma once

// bf16 storage: the tanh instruction, whose relative error 2^-11 is a quarter of a bf16 rounding. fp16 storage: from exp2,
// with an absolute error near 1e-7; for x below -88 exp2 overflows to infinity and its reciprocal is 0, as it should be.
__device__ __forceinline__ float sigmoid(float x) {
    if constexpr (FP16) return dev::reciprocal(1.f + dev::exp2_approximate(-1.44269504f * x));
    return fmaf(dev::tanh_approximate(0.5f * x), 0.5f, 0.5f);
}
__device__ __forceinline__ float hyperbolic_tangent(float x) {
    if constexpr (FP16) return fmaf(2.f, dev::reciprocal(1.f + dev::exp2_approximate(-2.88539008f * x)), -1.f);
    return dev::tanh_approximate(x);
}
