// Sketch: LSTM forward for Hopper. One cluster of R blocks owns BN sequences and the whole of W_hh.
//
// Checked: compiles for sm_90a without spills; the same source, run on a CPU by lstm_cluster_emulate.cpp (every CUDA thread a
//     real thread), matches a double-precision loop. NEVER RUN ON A GPU by its authors: speed, memory ordering on hardware
//     and cluster scheduling are unknown.
//
//     * W_hh stays in registers as A fragments of mma.m16n8k16; h is the B operand, re-read from shared memory.
//     * Rows of W are interleaved (lstm_cluster.py), so the four gates of a (unit, sequence) pair land in one thread.
//     * Pre-gates are stored [T, B, H, 4]: one 8-byte load starts the accumulators, issued one step ahead.
//     * New h is transposed by stmatrix and sent to every block of the cluster in 16-byte asynchronous stores that count down
//       an mbarrier there. A cluster barrier would be shorter to write, but its release compiles to a device-wide fence:
//       every step would then wait for the stores of h and c to global memory.
//     * Two h buffers suffice: a block starts step t+1 only after every warp of every peer has sent its part of step t, which
//       it does after its last read of the buffer that step t+1 overwrites.
//
// Layouts (bf16 unless said otherwise; B need not be a multiple of BN)
//     xg [T, B, H, 4]    pre-gates, gate order i f g o innermost
//     w  [H/8, 2, 16, H] W_hh: for 8 units u0..u0+7, 16 rows i(u0..u0+7) f(u0..u0+7), then 16 rows g, o
//     hs [T+1, B, H]     hs[0] = h_0; cs [T+1, B, H] fp32, cs[0] = c_0
// Freestanding: no header, so that NVRTC compiles it without a toolkit. Compiled with -DUNITS=H -DCLUSTER=R -DTILE=BN -DWARPS=n.
#ifndef LSTM_EMULATE  // the emulation brings its own types and primitives
#ifndef UNITS
#define UNITS 64
#define CLUSTER 1
#define TILE 8
#define WARPS 4
#endif
using uint16_t = unsigned short;
using uint32_t = unsigned int;
using uint64_t = unsigned long long;
using size_t = decltype(sizeof(0));

namespace dev {
__device__ __forceinline__ uint32_t shared_address(const void* p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
__device__ __forceinline__ float tanh_fast(float x) {       // relative error 2^-11
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t v;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));  // the first source is the upper half
    return v;
}
// d += a * b with a 16 x 16 (row major) and b 16 x 8 (column major)
__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// four 8 x 8 tiles; lane l passes the address of row l % 8 of tile l / 8
__device__ __forceinline__ void load_tiles(uint32_t (&r)[4], const uint16_t* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// one 8 x 8 tile, transposed on the way; lanes 0..7 pass the row addresses
__device__ __forceinline__ void store_tile_transposed(uint16_t* row, uint32_t r) {
    asm volatile("stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%0], {%1};" ::"r"(shared_address(row)), "r"(r)
                 : "memory");
}
__device__ __forceinline__ uint32_t barrier(int which) {
    __shared__ __align__(8) uint64_t words[2];
    return shared_address(&words[which]);
}
template <int R> __device__ __forceinline__ int cluster_rank() {
    uint32_t rank = 0;
    if constexpr (R > 1) asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return static_cast<int>(rank);
}
// Before the first step and after the last: nobody may send to a CTA that has not started or has gone.
template <int R> __device__ __forceinline__ void meet(bool first) {
    if constexpr (R == 1) {
        __syncthreads();
    } else {
        if (first && threadIdx.x == 0) {
            for (int i = 0; i < 2; i++)
                asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier(i)) : "memory");
            asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        }
        __syncwarp();  // .aligned asks for whole warps
        asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
    }
}
// This CTA's barrier `which` completes once it has been expected and that many bytes have arrived.
__device__ __forceinline__ void expect(int which, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier(which)), "r"(bytes) : "memory");
}
__device__ __forceinline__ void wait(int which, int parity) {
    asm volatile(
        "{\n.reg .pred done;\nagain:\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n}" ::"r"(barrier(which)), "r"(parity) : "memory");
}
// 16 bytes into the same shared-memory address of CTA `rank`, counted by its barrier `which`
__device__ __forceinline__ void send(uint16_t* address, int which, int rank, uint4 v) {
    uint32_t to, counter;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(shared_address(address)), "r"(rank));
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(counter) : "r"(barrier(which)), "r"(rank));
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
                 "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(counter) : "memory");
}
__device__ __forceinline__ void warp_sync() { __syncwarp(); }
__device__ __forceinline__ uint16_t* shared_memory() {
    extern __shared__ __align__(16) uint16_t memory[];
    return memory;
}
}  // namespace dev
#endif

__device__ __forceinline__ float low_half(uint32_t v) { return __uint_as_float(v << 16); }
__device__ __forceinline__ float high_half(uint32_t v) { return __uint_as_float(v & 0xffff0000u); }
__device__ __forceinline__ float sigmoid_fast(float x) { return fmaf(dev::tanh_fast(0.5f * x), 0.5f, 0.5f); }

template <int H, int R, int BN, int W>
__device__ __forceinline__ void
lstm_forward(const uint16_t* __restrict__ xg, const uint16_t* __restrict__ w, uint16_t* __restrict__ hs,
             float* __restrict__ cs, int T, int B) {
    constexpr int GROUPS = H / R / 8;            // groups of 8 units owned by this CTA
    constexpr int U = GROUPS / W;            // ... and by one warp
    constexpr int K = H / 16, N = BN / 8;        // k steps, batch blocks
    constexpr int LD = H + 8;                    // padded row of the h tile: no bank conflicts, 16-byte aligned
    static_assert(U >= 1 && U * W == GROUPS && H % 32 == 0 && BN % 8 == 0, "no whole tile per warp");

    uint16_t* const tile = dev::shared_memory();                   // [2][BN][LD], then 8 x 8 per warp if R > 1
    const int rank = dev::cluster_rank<R>(), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int b0 = static_cast<int>(blockIdx.x) / R * BN;
    const int group0 = rank * GROUPS + warp * U;                   // first group of 8 units of this warp
    const int row = lane / 4, pair = lane % 4 * 2;                 // this thread's unit and first of two sequences
    const size_t step = static_cast<size_t>(B) * H;
    uint16_t* const staging = tile + 2 * BN * LD + warp * 64;

    uint32_t a[U][2][K][4];                                        // W_hh fragments, loaded once
#pragma unroll
    for (int u = 0; u < U; u++)
#pragma unroll
        for (int p = 0; p < 2; p++)
#pragma unroll
            for (int k = 0; k < K; k++)
#pragma unroll
                for (int q = 0; q < 4; q++) {                      // q: upper/lower 8 rows, left/right 8 columns
                    const size_t r = static_cast<size_t>((group0 + u) * 2 + p) * 16 + row + q % 2 * 8;
                    a[u][p][k][q] = *reinterpret_cast<const uint32_t*>(w + r * H + k * 16 + pair + q / 2 * 8);
                }
    for (int i = threadIdx.x; i < BN * H; i += W * 32) {       // every CTA of the cluster holds all of h
        const int b = i / H, unit = i % H;
        tile[b * LD + unit] = b0 + b < B ? hs[(b0 + b) * static_cast<size_t>(H) + unit] : uint16_t(0);
    }
    float c[U][N][2];
    uint2 next[U][N][2];                                           // pre-gates of the coming step, still packed
#pragma unroll
    for (int u = 0; u < U; u++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const int b = b0 + n * 8 + pair + j, unit = (group0 + u) * 8 + row;
                const size_t at = b * static_cast<size_t>(H) + unit;
                c[u][n][j] = b < B ? cs[at] : 0.f;
                next[u][n][j] = b < B ? *reinterpret_cast<const uint2*>(xg + at * 4) : uint2{0u, 0u};
            }
    dev::meet<R>(true);

    for (int t = 0; t < T; t++) {
        const uint16_t* const now = tile + t % 2 * BN * LD;
        uint16_t* const then = tile + (t + 1) % 2 * BN * LD;
        if (R > 1 && threadIdx.x == 0) dev::expect((t + 1) % 2, BN * H * 2);
        float d[U][2][N][4];
#pragma unroll
        for (int u = 0; u < U; u++)
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    const uint2 v = next[u][n][j];
                    d[u][0][n][j] = low_half(v.x);
                    d[u][0][n][2 + j] = high_half(v.x);
                    d[u][1][n][j] = low_half(v.y);
                    d[u][1][n][2 + j] = high_half(v.y);
                    const int b = b0 + n * 8 + pair + j, unit = (group0 + u) * 8 + row;
                    if (t + 1 < T && b < B)
                        next[u][n][j] = *reinterpret_cast<const uint2*>(
                            xg + ((t + 1) * step + b * static_cast<size_t>(H) + unit) * 4);
                }
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int k = 0; k < K; k += 2) {
                uint32_t b[4];                                     // h for k steps k and k + 1
                dev::load_tiles(b, now + (n * 8 + lane % 8) * LD + k * 16 + lane / 8 * 8);
#pragma unroll
                for (int u = 0; u < U; u++)
#pragma unroll
                    for (int p = 0; p < 2; p++) {
                        dev::mma(d[u][p][n], a[u][p][k], b[0], b[1]);
                        dev::mma(d[u][p][n], a[u][p][k + 1], b[2], b[3]);
                    }
            }
#pragma unroll
        for (int u = 0; u < U; u++)
#pragma unroll
            for (int n = 0; n < N; n++) {
                float h[2];
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    const float i = sigmoid_fast(d[u][0][n][j]), f = sigmoid_fast(d[u][0][n][2 + j]);
                    const float g = dev::tanh_fast(d[u][1][n][j]), o = sigmoid_fast(d[u][1][n][2 + j]);
                    c[u][n][j] = fmaf(f, c[u][n][j], i * g);
                    h[j] = o * dev::tanh_fast(c[u][n][j]);
                    const int b = b0 + n * 8 + pair + j;
                    if (b < B) cs[(t + 1) * step + b * static_cast<size_t>(H) + (group0 + u) * 8 + row] = c[u][n][j];
                }
                // 8 units x 8 sequences, in the registers of a warp, become 8 rows of 16 bytes
                uint16_t* const line = then + (n * 8 + lane % 8) * LD + (group0 + u) * 8;
                uint16_t* const mine = R > 1 ? staging + lane % 8 * 8 : line;
                dev::store_tile_transposed(mine, dev::pack(h[0], h[1]));
                dev::warp_sync();
                const uint4 v = *reinterpret_cast<const uint4*>(mine);
                const int b = b0 + n * 8 + lane % 8;
                if (lane < 8 && b < B)
                    *reinterpret_cast<uint4*>(hs + (t + 1) * step + b * static_cast<size_t>(H) + (group0 + u) * 8) = v;
                if constexpr (R > 1) {
#pragma unroll
                    for (int first = 0; first < R; first += 4) {   // four CTAs at a time, eight lanes each
                        const int peer = first + lane / 8;
                        if (peer < R) dev::send(line, (t + 1) % 2, peer, v);
                    }
                    dev::warp_sync();                              // before the staging rows are used again
                }
            }
        if constexpr (R > 1) dev::wait((t + 1) % 2, t / 2 % 2); else dev::meet<1>(false);
    }
    if constexpr (R > 1) dev::meet<R>(false);
}
#ifndef LSTM_EMULATE
extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(WARPS * 32, 1)
lstm_cluster(const uint16_t* __restrict__ xg, const uint16_t* __restrict__ w, uint16_t* __restrict__ hs,
             float* __restrict__ cs, int T, int B) {
    lstm_forward<UNITS, CLUSTER, TILE, WARPS>(xg, w, hs, cs, T, B);
}
#endif
