// One configuration of the kernel as a shared library for a CPU: the same forward.cuh and backward.cuh as on the GPU, over
// the stand-ins of device.hpp. Clusters share nothing but inputs, so they run one after the other.
//
// What this can show: index arithmetic, masks, fragment layouts, missing or misplaced barriers, deadlocks, messages to a
// block that has ended. What it cannot: the memory model of the hardware, the accuracy of its instructions, any speed.
#include "device.hpp"

#include "../activations.cuh"
#include "../place.cuh"
#include "../exchange.cuh"
#include "../weights.cuh"
#if LSTM_BACKWARD
#include "../backward.cuh"
#else
#include "../forward.cuh"
#endif

// Null where the kernel came to its end, else what went wrong.
template <class Kernel> const char* launch(int B, unsigned seed, int delivery, int left_out, Kernel&& kernel) {
    fault = static_cast<Fault>(left_out);
    for (int tile = 0; tile < (B + TILE - 1) / TILE; tile++) {
        Cluster here(CLUSTER, THREADS, SHARED);
        Schedule order(seed + 2 * tile, static_cast<Delivery>(delivery));
        cluster = &here, schedule = &order, cluster_index = tile;
        for (auto& block : here.blocks) block->running = THREADS;
        const char* const wrong = order.run(CLUSTER * THREADS, [&](int) {
            Block& mine = my_block();
            kernel();
            mine.ended = --mine.running == 0;
        });
        if (wrong) return wrong;
    }
    return nullptr;
}

extern "C" {
int shared_bytes() { return SHARED; }
#if LSTM_BACKWARD
const char* lstm_backward(const uint16_t* w, const uint16_t* gates, const float* cell, const float* c0, const unsigned char* keep,
                  const uint16_t* d_hidden, const float* d_h, const float* d_c, const long long* last, uint16_t* d_gates,
                  float* d_h0, float* d_c0, int T, int B, int H, int bptt, unsigned seed, int delivery, int left_out) {
    return launch(B, seed, delivery, left_out, [=] {
        backward_sequence(w, gates, cell, c0, keep, d_hidden, d_h, d_c, last, d_gates, d_h0, d_c0, T, B, H, bptt);
    });
}
#else
const char* lstm_forward(const uint16_t* gates_x, const uint16_t* w, const uint16_t* h0, const float* c0, const unsigned char* keep,
                 uint16_t* hidden, float* cell, uint16_t* gates, int T, int B, int H, unsigned seed, int delivery,
                 int left_out) {
    return launch(B, seed, delivery, left_out,
                  [=] { forward_sequence(gates_x, w, h0, c0, keep, hidden, cell, gates, T, B, H); });
}
#endif
}
