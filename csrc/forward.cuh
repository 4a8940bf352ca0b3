// Forward over the whole sequence (Hochreiter & Schmidhuber 1997; gate order i, f, g, o):
//     z_t = x_t + W h_{t-1};  i, f, o = sigmoid(z);  g = tanh(z);  c_t = f c_{t-1} + i g;  h_t = o tanh(c_t)
// keep [T, B] (or null): 0 clears h_{t-1} and c_{t-1} of a sequence before step t.
//
// gates_x [T, B, 4 H], w [4 H, H], h0 [B, H], hidden [T, B, H], gates [T, B, 4 H] (i, f, g, o after their nonlinearity; null:
// not stored) in the storage type; c0 [B, H] and cell [T, B, H] in fp32. All contiguous, 16-byte aligned, H a multiple of 8.
#pragma once

// h0, masked, into exchange buffer 0 of every block.
__device__ __forceinline__ void place_initial(const Place& me, const uint16_t* h0, const unsigned char* keep) {
    for (int i = threadIdx.x; i < TILE * HIDDEN / 8; i += THREADS) {
        const int line = i / (HIDDEN / 8), unit = i % (HIDDEN / 8) * 8, sequence = me.first_sequence + line;
        const bool real = sequence < me.B && unit < me.H && me.kept(keep, 0, sequence);
        *reinterpret_cast<uint4*>(me.tile(0) + line * LD + unit) = load16(h0 + me.at(0, sequence, unit), real);
    }
}

__device__ __forceinline__ void forward_sequence(
    const uint16_t* __restrict__ gates_x, const uint16_t* __restrict__ w, const uint16_t* __restrict__ h0,
    const float* __restrict__ c0, const unsigned char* __restrict__ keep, uint16_t* __restrict__ hidden,
    float* __restrict__ cell, uint16_t* __restrict__ gates, int T, int B, int H) {
    const Place me(T, B, H);
    Weights weights;
    weights.load(w, me);
    place_initial(me, h0, keep);
    float c[N][2];
    uint4 next[N];  // this lane's row of the coming step
#pragma unroll
    for (int n = 0; n < N; n++) {
        next[n] = load16(gates_x + me.gate_row(0, me.row_sequence(n)), me.real(me.row_sequence(n)));
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int b = me.sequence(n, j);
            c[n][j] = me.real(b) && me.kept(keep, 0, b) ? c0[me.at(0, b, me.unit())] : 0.f;
        }
    }
    open_exchange();

    for (int t = 0; t < T; t++) {
        const bool more = t + 1 < T;
        if (more) expect_exchange(t);
        float z[2][N][4];
        bool row_kept[N], kept[N][2];  // by the step to come
#pragma unroll
        for (int n = 0; n < N; n++) {
            uint32_t v[4];
            rows_to_pairs(v, me.stage(n), next[n], me.lane);
#pragma unroll
            for (int gate = 0; gate < 4; gate++) {
                z[gate / 2][n][gate % 2 * 2] = dev::low_half(v[gate]);
                z[gate / 2][n][gate % 2 * 2 + 1] = dev::high_half(v[gate]);
            }
            const int b = me.row_sequence(n);
            if (more) next[n] = load16(gates_x + me.gate_row(t + 1, b), me.real(b));
            row_kept[n] = !more || me.kept(keep, t + 1, b);
#pragma unroll
            for (int j = 0; j < 2; j++) kept[n][j] = !more || me.kept(keep, t + 1, me.sequence(n, j));
        }
        weights.multiply(z, me, me.tile(t % 2));
#pragma unroll
        for (int n = 0; n < N; n++) {
            float value[4][2], h[2];
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const float i = value[0][j] = sigmoid(z[0][n][j]), f = value[1][j] = sigmoid(z[0][n][2 + j]);
                const float g = value[2][j] = hyperbolic_tangent(z[1][n][j]), o = value[3][j] = sigmoid(z[1][n][2 + j]);
                c[n][j] = fmaf(f, c[n][j], i * g);
                h[j] = o * hyperbolic_tangent(c[n][j]);
                const int b = me.sequence(n, j);
                if (me.real(b)) cell[me.at(t, b, me.unit())] = c[n][j];
                if (!kept[n][j]) c[n][j] = 0.f;
            }
            uint16_t* const stage = me.stage(n);
            if (gates) {
                uint32_t v[4];
#pragma unroll
                for (int gate = 0; gate < 4; gate++) v[gate] = dev::pack(value[gate][0], value[gate][1]);
                dev::store_tiles_transposed(stage + me.lane * 8, v);
            }
            dev::store_tile_transposed(stage + (32 + me.lane % 8) * 8, dev::pack(h[0], h[1]));
            dev::warp_sync();
            const int b = me.row_sequence(n);
            const uint4 row = *reinterpret_cast<const uint4*>(stage + (32 + me.lane % 8) * 8);
            if (gates && me.real(b))
                *reinterpret_cast<uint4*>(gates + me.gate_row(t, b)) = *reinterpret_cast<const uint4*>(stage + me.lane * 8);
            if (more)
                send_row(me.tile((t + 1) % 2) + (n * 8 + me.lane % 8) * LD + me.first_unit, t, masked(row, row_kept[n]),
                         me.lane, 8, me.rank);
            if (me.lane < 8 && me.real(b)) *reinterpret_cast<uint4*>(hidden + me.at(t, b, me.first_unit)) = row;
            dev::warp_sync();  // before the stage is written again
        }
        if (more) finish_exchange(t);
    }
    close_exchange();
}
