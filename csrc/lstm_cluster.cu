// The kernel of one configuration: README.md says what it does, shape.cuh which macros choose it. No header beyond this
// folder, so that any compiler of CUDA C++ for sm_90a builds it.
#include "device.cuh"
#include "activations.cuh"
#include "place.cuh"
#include "exchange.cuh"
#include "weights.cuh"
#if LSTM_BACKWARD
#include "backward.cuh"

extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(THREADS, 1)
lstm_backward(const uint16_t* __restrict__ w, const uint16_t* __restrict__ gates, const float* __restrict__ cell,
              const float* __restrict__ c0, const unsigned char* __restrict__ keep, const uint16_t* __restrict__ d_hidden,
              const float* __restrict__ d_h, const float* __restrict__ d_c, const long long* __restrict__ last,
              uint16_t* __restrict__ d_gates, float* __restrict__ d_h0, float* __restrict__ d_c0, int T, int B, int H,
              int bptt) {
    backward_sequence(w, gates, cell, c0, keep, d_hidden, d_h, d_c, last, d_gates, d_h0, d_c0, T, B, H, bptt);
}
#else
#include "forward.cuh"

extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(THREADS, 1)
lstm_forward(const uint16_t* __restrict__ gates_x, const uint16_t* __restrict__ w, const uint16_t* __restrict__ h0,
             const float* __restrict__ c0, const unsigned char* __restrict__ keep, uint16_t* __restrict__ hidden,
             float* __restrict__ cell, uint16_t* __restrict__ gates, int T, int B, int H) {
    forward_sequence(gates_x, w, h0, c0, keep, hidden, cell, gates, T, B, H);
}
#endif
