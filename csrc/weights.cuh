// A warp's part of W_hh, resident for the whole sequence, and the product with it.
#pragma once

// 16 x 16 fragments in the layout of mma operand a: q = 0, 1 are rows l / 4 and l / 4 + 8, q = 2, 3 the same, 8 columns on;
// each word holds two neighbouring columns from l % 4 * 2.
struct Weights {
    uint32_t held[HELD > 0 ? HELD : 1][4];

    // Word q of fragment f. W_hh is [4 H, H], gates i f g o.
    // Forward: fragment 2 k + p covers columns 16 k.. of h; its rows are gates 2 p and 2 p + 1 of the warp's 8 units.
    // Backward: W_hh transposed; the rows are the 16 units of two warps, the columns those of dz from 2 HIDDEN for the second
    // warp (gates g, o), from 0 for the first (i, f).
    static __device__ __forceinline__ uint32_t word(const uint16_t* w, const Place& me, int f, int q) {
        const int right = me.lane % 4 * 2 + q / 2 * 8;
        const size_t H = me.H;
        if constexpr (BACKWARD) {
            const int unit = me.first_unit / 16 * 16 + me.lane / 4 + q % 2 * 8;
            const int column = me.warp % 2 * 2 * HIDDEN + f * 16 + right, from = column % HIDDEN;
            if (unit >= me.H || from >= me.H) return 0u;
            const uint16_t* const p = w + (column / HIDDEN * H + from) * H + unit;
            return p[0] | static_cast<uint32_t>(p[H]) << 16;
        } else {
            const int column = f / 2 * 16 + right;
            if (me.first_unit >= me.H || column >= me.H) return 0u;
            return *reinterpret_cast<const uint32_t*>(w + ((f % 2 * 2 + q % 2) * H + me.unit()) * H + column);
        }
    }
    __device__ __forceinline__ void load(const uint16_t* w, const Place& me) {
#pragma unroll
        for (int f = 0; f < HELD; f++)
#pragma unroll
            for (int q = 0; q < 4; q++) held[f][q] = word(w, me, f, q);
#pragma unroll 2
        for (int f = HELD; f < FRAGMENTS; f++)  // a lane reads back what it wrote: no barrier
            me.resident()[(f - HELD) * 32 + me.lane] =
                uint4{word(w, me, f, 0), word(w, me, f, 1), word(w, me, f, 2), word(w, me, f, 3)};
    }
    __device__ __forceinline__ void fragment(uint32_t (&a)[4], const Place& me, int f) const {
        if (f < HELD) {
#pragma unroll
            for (int q = 0; q < 4; q++) a[q] = held[f < HELD ? f : 0][q];
        } else {
            const uint4 v = me.resident()[(f - HELD) * 32 + me.lane];
            a[0] = v.x, a[1] = v.y, a[2] = v.z, a[3] = v.w;
        }
    }
    // sum += W tile^T; tile [TILE][LD] in shared memory.
    __device__ __forceinline__ void multiply(float (&sum)[ROW_TILES][N][4], const Place& me, const uint16_t* tile) const {
        float part[CHAINS][ROW_TILES][N][4] = {};
        const uint16_t* const row = tile + me.lane % 8 * LD + me.lane / 8 * 8 + (BACKWARD ? me.warp % 2 * 2 * HIDDEN : 0);
#pragma unroll
        for (int k = 0; k < STEPS; k += 2) {
            uint32_t b[N][4];  // columns of two steps
#pragma unroll
            for (int n = 0; n < N; n++) dev::load_tiles(b[n], row + n * 8 * LD + k * 16);
#pragma unroll
            for (int s = 0; s < 2; s++)
#pragma unroll
                for (int p = 0; p < ROW_TILES; p++) {
                    uint32_t a[4];
                    fragment(a, me, (k + s) * ROW_TILES + p);
#pragma unroll
                    for (int n = 0; n < N; n++) dev::mma(part[(k + s) % CHAINS][p][n], a, b[n][2 * s], b[n][2 * s + 1]);
                }
        }
#pragma unroll
        for (int p = 0; p < ROW_TILES; p++)
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int q = 0; q < 4; q++)
#pragma unroll
                    for (int chain = 0; chain < CHAINS; chain++) sum[p][n][q] += part[chain][p][n][q];
    }
};
