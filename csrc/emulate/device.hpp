// The functions of ../device.cuh on a CPU, written from the fragment layouts of the PTX manual (mma.m16n8k16, ldmatrix,
// stmatrix, mbarrier, st.async).
#pragma once
#include <cmath>
#include <cstddef>

#include "../shape.cuh"
#include "cluster.hpp"

#define __device__
#define __forceinline__ inline
#define __restrict__

struct uint2 { uint32_t x, y; };
struct alignas(16) uint4 { uint32_t x, y, z, w; };
struct float2 { float x, y; };
struct Index { unsigned x; };

// One fibre per CUDA thread, so that these follow from the fibre that runs.
inline Cluster* cluster;
inline unsigned cluster_index;
inline int my_rank() { return schedule->current() / THREADS; }
inline Block& my_block() { return *cluster->blocks[my_rank()]; }
#define threadIdx (Index{static_cast<unsigned>(schedule->current() % THREADS)})
#define blockIdx (Index{cluster_index * CLUSTER + static_cast<unsigned>(my_rank())})
inline Warp& my_warp() { return my_block().warps[threadIdx.x / 32]; }

// What to leave out, to show that its absence is noticed.
enum class Fault { none, exchange, pair, free_buffer, sends };
inline Fault fault = Fault::none;

inline float bits_to_float(uint32_t v) {
    float f;
    std::memcpy(&f, &v, 4);
    return f;
}

namespace dev {
inline unsigned char* shared_memory() { return reinterpret_cast<unsigned char*>(my_block().memory.data()); }

template <class T> T* opaque(T* pointer) { return pointer; }

inline uint16_t narrow(float f) {
    uint16_t half;
    if constexpr (FP16) {
        const _Float16 h = static_cast<_Float16>(f);
        std::memcpy(&half, &h, 2);
        return half;
    }
    uint32_t v;
    std::memcpy(&v, &f, 4);
    if (std::isnan(f)) return 0x7fff;
    return static_cast<uint16_t>((v + 0x7fff + (v >> 16 & 1)) >> 16);
}
inline float wide(uint16_t v) {
    if constexpr (FP16) {
        _Float16 h;
        std::memcpy(&h, &v, 2);
        return static_cast<float>(h);
    }
    return bits_to_float(static_cast<uint32_t>(v) << 16);
}
inline uint32_t pack(float low, float high) { return narrow(low) | static_cast<uint32_t>(narrow(high)) << 16; }
inline float low_half(uint32_t v) { return wide(static_cast<uint16_t>(v)); }
inline float high_half(uint32_t v) { return wide(static_cast<uint16_t>(v >> 16)); }
// The instruction has a relative error of up to 2^-11: here always of that size, of either sign.
inline float tanh_approximate(float x) {
    uint32_t v;
    std::memcpy(&v, &x, 4);
    return std::fmax(-1.f, std::fmin(1.f, std::tanh(x) * (1.f + (v & 1 ? 1.f : -1.f) / 2048.f)));
}
inline float exp2_approximate(float x) { return std::exp2(x); }
inline float reciprocal(float x) { return 1.f / x; }

// All 32 lanes must come, to the same operation.
template <class Work> void collective(const void* operation, Work&& work) {
    Warp& w = my_warp();
    if (w.operation && w.operation != operation) fail("lanes of a warp are at different instructions");
    w.operation = operation;
    w.lanes.meet([&] {
        w.operation = nullptr;
        work(w);
    });
}
inline int lane() { return threadIdx.x % 32; }
inline const char sync_name = 0, mma_name = 0, load_name = 0, store_name = 0;

inline void warp_sync() {
    collective(&sync_name, [](Warp&) {});
}
inline void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    Warp& mine = my_warp();
    std::memcpy(mine.a[lane()], a, 16);
    mine.b[lane()][0] = b0, mine.b[lane()][1] = b1;
    mine.d[lane()] = d;
    collective(&mma_name, [](Warp& w) {
        float a[16][16], b[16][8];
        for (int l = 0; l < 32; l++)
            for (int q = 0; q < 4; q++) {
                const int row = l / 4 + q % 2 * 8, column = l % 4 * 2 + q / 2 * 8;
                a[row][column] = low_half(w.a[l][q]), a[row][column + 1] = high_half(w.a[l][q]);
                if (q < 2) b[column % 8 + q * 8][l / 4] = low_half(w.b[l][q]);
                if (q < 2) b[column % 8 + q * 8 + 1][l / 4] = high_half(w.b[l][q]);
            }
        for (int l = 0; l < 32; l++)
            for (int q = 0; q < 4; q++) {
                float sum = 0;
                for (int k = 0; k < 16; k++) sum += a[l / 4 + q / 2 * 8][k] * b[k][l % 4 * 2 + q % 2];
                w.d[l][q] += sum;
            }
    });
}
inline void move(const uint16_t* row, uint32_t* word, const void* name, void (*work)(Warp&)) {
    Warp& mine = my_warp();
    mine.row[lane()] = const_cast<uint16_t*>(row);
    mine.word[lane()] = word;
    if (reinterpret_cast<uintptr_t>(row) % 16) fail("a row is not aligned to 16 bytes");
    collective(name, work);
}
inline void load_tiles(uint32_t (&r)[4], const uint16_t* row) {
    move(row, r, &load_name, [](Warp& w) {
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 4; i++) std::memcpy(&w.word[l][i], w.row[i * 8 + l / 4] + l % 4 * 2, 4);
    });
}
inline void load_tiles_transposed(uint32_t (&r)[4], const uint16_t* row) {
    move(row, r, &load_name, [](Warp& w) {
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 4; i++)
                w.word[l][i] = w.row[i * 8 + l % 4 * 2][l / 4] | static_cast<uint32_t>(w.row[i * 8 + l % 4 * 2 + 1][l / 4]) << 16;
    });
}
template <int TILES> void store_transposed(Warp& w) {
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < TILES; i++)
            for (int j = 0; j < 2; j++) w.row[i * 8 + l % 4 * 2 + j][l / 4] = static_cast<uint16_t>(w.word[l][i] >> 16 * j);
}
inline void store_tiles_transposed(uint16_t* row, const uint32_t (&r)[4]) {
    move(row, const_cast<uint32_t*>(r), &store_name, store_transposed<4>);
}
inline void store_tile_transposed(uint16_t* row, uint32_t r) { move(row, &r, &store_name, store_transposed<1>); }

inline void block_barrier() {
    if (fault != Fault::exchange) my_block().barrier.meet();
}
inline void pair_barrier() {
    if (fault != Fault::pair) my_block().pairs[threadIdx.x / 64].meet();
}
inline int cluster_rank() { return my_rank(); }
inline void cluster_barrier() { cluster->barrier.meet(); }
inline void set_counter(int which, int arrivals) { my_block().counters[which].set(arrivals); }
inline void expect(int which, int bytes) { my_block().counters[which].update(1, bytes); }
inline void wait(int which, int parity) {
    if (fault == (which < BUFFERS ? Fault::exchange : Fault::free_buffer)) return;
    my_block().counters[which].wait(parity);
}
inline void send(uint16_t* address, int which, int rank, uint4 v) {
    const size_t offset = reinterpret_cast<unsigned char*>(address) - shared_memory();
    if (offset < COUNTERS || offset + 16 > COUNTERS + EXCHANGE || offset % 16) fail("a message is not for a buffer");
    if (fault == Fault::sends) return;
    Block& to = *cluster->blocks[rank];
    schedule->post([&to, offset, which, v] {
        if (to.ended) fail("a message for a block that has ended");
        std::memcpy(reinterpret_cast<unsigned char*>(to.memory.data()) + offset, &v, 16);
        to.counters[which].update(0, -16);
    });
}
inline void arrive(int which, int rank) {
    Block& to = *cluster->blocks[rank];
    schedule->post([&to, which] {
        if (to.ended) fail("an arrival at a block that has ended");
        to.counters[which].update(1, 0);
    });
}
}  // namespace dev
