// Everything that only the GPU can do, each as one small function: matrix products, transposing moves through shared
// memory, barriers, messages between the blocks of a cluster, conversions. emulate/device.hpp has the same names for a CPU.
#pragma once
#include "shape.cuh"
using uint16_t = unsigned short;
using uint32_t = unsigned int;
using uint64_t = unsigned long long;

namespace dev {
__device__ __forceinline__ uint32_t shared_address(const void* p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
__device__ __forceinline__ unsigned char* shared_memory() {
    extern __shared__ __align__(128) unsigned char memory[];
    return memory;
}
// The same pointer, about which the compiler knows nothing: a test for null inside the time loop stays a test. Otherwise
// the loop is written out once for every set of arguments that may be null, and registers spill.
template <class T> __device__ __forceinline__ T* opaque(T* pointer) {
    asm volatile("" : "+l"(pointer));
    return pointer;
}

// ---- numbers -------------------------------------------------------------------------------------------------------
__device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t v;  // the first source is the upper half
    if constexpr (FP16)
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
    else
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
    return v;
}
__device__ __forceinline__ float wide(uint16_t v) {
    float f;
    if constexpr (FP16)
        asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(v));
    else
        f = __uint_as_float(static_cast<uint32_t>(v) << 16);
    return f;
}
__device__ __forceinline__ float low_half(uint32_t v) { return wide(static_cast<uint16_t>(v & 0xffffu)); }
__device__ __forceinline__ float high_half(uint32_t v) { return wide(static_cast<uint16_t>(v >> 16)); }
__device__ __forceinline__ float tanh_approximate(float x) {  // relative error 2^-11
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float exp2_approximate(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float reciprocal(float x) {  // of infinity: 0
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// ---- one warp ------------------------------------------------------------------------------------------------------
__device__ __forceinline__ void warp_sync() { __syncwarp(); }

// d += a b; a 16 x 16 (row major), b 16 x 8 (column major). Lane l has rows l / 4 (d[0], d[1]) and l / 4 + 8 (d[2], d[3]),
// columns l % 4 * 2 and the next.
__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    if constexpr (FP16)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// Four 8 x 8 tiles; lane l passes the address of row l % 8 of tile l / 8 and gets, of each, two neighbours of row l / 4.
__device__ __forceinline__ void load_tiles(uint32_t (&r)[4], const uint16_t* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// The same, transposed: two neighbours of column l / 4.
__device__ __forceinline__ void load_tiles_transposed(uint32_t (&r)[4], const uint16_t* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ __forceinline__ void store_tiles_transposed(uint16_t* row, const uint32_t (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(shared_address(row)),
                 "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
}
// One tile; lanes 0 to 7 pass the row addresses.
__device__ __forceinline__ void store_tile_transposed(uint16_t* row, uint32_t r) {
    asm volatile("stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%0], {%1};" ::"r"(shared_address(row)), "r"(r)
                 : "memory");
}

// ---- one block -----------------------------------------------------------------------------------------------------
__device__ __forceinline__ void block_barrier() { __syncthreads(); }
// Between the two warps 2 i and 2 i + 1. Barrier 0 is the one of __syncthreads.
__device__ __forceinline__ void pair_barrier() {
    __syncwarp();  // takes whole warps
    asm volatile("bar.sync %0, 64;" ::"r"(1 + threadIdx.x / 64) : "memory");
}

// ---- one cluster ---------------------------------------------------------------------------------------------------
// Counters (mbarriers) 0 .. BUFFERS - 1 count the bytes that arrive in a buffer; the one after them counts warps that have
// read the only buffer. They are the first words of shared memory.
__device__ __forceinline__ uint32_t counter(int which) { return shared_address(shared_memory()) + which * 8; }
__device__ __forceinline__ int cluster_rank() {
    uint32_t rank = 0;
    if constexpr (CLUSTER > 1) asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return static_cast<int>(rank);
}
__device__ __forceinline__ void cluster_barrier() {
    __syncwarp();  // .aligned asks for whole warps
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// Called by one thread, before a cluster barrier: counter `which` completes a phase after `arrivals` and all bytes expected.
__device__ __forceinline__ void set_counter(int which, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(counter(which)), "r"(arrivals) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
// One arrival at this block's own counter, which then waits for that many bytes more.
__device__ __forceinline__ void expect(int which, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(counter(which)), "r"(bytes) : "memory");
}
__device__ __forceinline__ void wait(int which, int parity) {
    uint32_t done;
    do asm volatile("{\n.reg .pred p;\n"
                    "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
                    "selp.u32 %0, 1, 0, p;\n}"
                    : "=r"(done)
                    : "r"(counter(which)), "r"(parity)
                    : "memory");
    while (!done);
}
__device__ __forceinline__ uint32_t of_peer(uint32_t address, int rank) {
    uint32_t peer;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(peer) : "r"(address), "r"(rank));
    return peer;
}
// 16 bytes into the same shared-memory address of block `rank`, counted by its counter `which`.
__device__ __forceinline__ void send(uint16_t* address, int which, int rank, uint4 v) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(
                     of_peer(shared_address(address), rank)),
                 "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(of_peer(counter(which), rank))
                 : "memory");
}
// One arrival at counter `which` of block `rank`.
__device__ __forceinline__ void arrive(int which, int rank) {
    asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(of_peer(counter(which), rank))
                 : "memory");
}
}  // namespace dev
