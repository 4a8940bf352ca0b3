// Backward over the whole sequence, from the activated gates and cells that the forward stored:
//     dh = dy_t + dh_rec;  dc = dc_rec + dh o (1 - tanh(c)^2)
//     dz_o = dh tanh(c) o (1 - o);  dz_i = dc g i (1 - i);  dz_f = dc c_{t-1} f (1 - f);  dz_g = dc i (1 - g^2)
//     dc_rec = keep_t dc f;  dh_rec = keep_t W^T dz;  c_{t-1} is masked by keep_t
// Truncation: before every step that is a multiple of bptt, 0 excepted, dh_rec and dc_rec become zero.
// The gradient of W_hh is a product over all steps, dz^T (keep h_{t-1}), and is left to a GEMM: within the loop its sums
// would take the registers that hold the weights.
//
// w, gates, d_hidden [T, B, H], d_gates [T, B, 4 H] in the storage type; cell, c0, and, each [B, H], d_h, d_c (gradients of
// the last state), d_h0, d_c0 in fp32. last [B] (or null: T - 1): the step whose state is a sequence's last. All contiguous,
// 16-byte aligned, H a multiple of 8; bptt >= 1.
#pragma once

__device__ __forceinline__ void backward_sequence(
    const uint16_t* __restrict__ w, const uint16_t* __restrict__ gates, const float* __restrict__ cell,
    const float* __restrict__ c0, const unsigned char* __restrict__ keep, const uint16_t* __restrict__ d_hidden,
    const float* __restrict__ d_h, const float* __restrict__ d_c, const long long* __restrict__ last,
    uint16_t* __restrict__ d_gates, float* __restrict__ d_h0, float* __restrict__ d_c0, int T, int B, int H, int bptt) {
    const Place me(T, B, H);
    Weights weights;
    weights.load(w, me);
    const auto cell_after = [&](int step, int sequence) {  // step -1: the initial state
        if (!me.real(sequence)) return 0.f;
        return step < 0 ? c0[me.at(0, sequence, me.unit())] : cell[me.at(step, sequence, me.unit())];
    };
    float dh[N][2] = {}, dc[N][2] = {}, c[N][2], before[N][2], dy[N][2];
    uint4 next[N];  // gates of the coming step: this lane's row
    bool row_kept[N], kept[N][2], ends[N][2];
    const auto fetch = [&](int t) {  // everything step t reads, one step ahead
        const unsigned char* const keep_here = dev::opaque(keep);
        const long long* const last_here = dev::opaque(last);
#pragma unroll
        for (int n = 0; n < N; n++) {
            const int row = me.row_sequence(n);
            next[n] = load16(gates + me.gate_row(t, row), me.real(row));
            row_kept[n] = me.kept(keep_here, t, row);
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const int b = me.sequence(n, j);
                before[n][j] = cell_after(t - 1, b);
                dy[n][j] = me.real(b) ? dev::wide(d_hidden[me.at(t, b, me.unit())]) : 0.f;
                kept[n][j] = me.kept(keep_here, t, b);
                ends[n][j] = me.real(b) && (last_here ? last_here[b] : T - 1) == t;
            }
        }
    };
    fetch(T - 1);
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int j = 0; j < 2; j++) c[n][j] = cell_after(T - 1, me.sequence(n, j));
    int phase = (T - 1) % bptt;  // t % bptt
    open_exchange();

    for (int exchange = 0; exchange < T; exchange++) {
        const int t = T - 1 - exchange;
        const bool cut = phase == 0 && t > 0;
        phase = phase ? phase - 1 : bptt - 1;
        expect_exchange(exchange);
        uint4 rows[N];
#pragma unroll
        for (int n = 0; n < N; n++) {
            uint32_t v[4];
            uint16_t* const stage = me.stage(n);
            rows_to_pairs(v, stage, next[n], me.lane);
            float dz[4][2];
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const float i = j ? dev::high_half(v[0]) : dev::low_half(v[0]);
                const float f = j ? dev::high_half(v[1]) : dev::low_half(v[1]);
                const float g = j ? dev::high_half(v[2]) : dev::low_half(v[2]);
                const float o = j ? dev::high_half(v[3]) : dev::low_half(v[3]);
                if (ends[n][j]) {
                    const size_t at = me.at(0, me.sequence(n, j), me.unit());
                    dh[n][j] += d_h[at], dc[n][j] += d_c[at];
                }
                const float squashed = hyperbolic_tangent(c[n][j]), d = dh[n][j] + dy[n][j];
                const float total = fmaf(d * o, 1.f - squashed * squashed, dc[n][j]);
                c[n][j] = before[n][j];
                dz[0][j] = total * g * i * (1.f - i);
                dz[1][j] = kept[n][j] ? total * before[n][j] * f * (1.f - f) : 0.f;
                dz[2][j] = total * i * (1.f - g * g);
                dz[3][j] = d * squashed * o * (1.f - o);
                dc[n][j] = kept[n][j] && !cut ? total * f : 0.f;
            }
#pragma unroll
            for (int gate = 0; gate < 4; gate++) v[gate] = dev::pack(dz[gate][0], dz[gate][1]);
            dev::store_tiles_transposed(stage + me.lane * 8, v);
            dev::warp_sync();
            rows[n] = *reinterpret_cast<const uint4*>(stage + me.lane * 8);
            dev::warp_sync();  // before the stage is written again
        }
        wait_until_free(exchange);
#pragma unroll
        for (int n = 0; n < N; n++) {
            uint16_t* const line = me.tile(buffer_of(exchange)) + (n * 8 + me.lane % 8) * LD;
            send_row(line + me.lane / 8 * HIDDEN + me.first_unit, exchange, masked(rows[n], row_kept[n] && !cut),
                     me.lane, 32, me.rank);
            const int b = me.row_sequence(n);
            if (me.real(b)) *reinterpret_cast<uint4*>(d_gates + me.gate_row(t, b)) = rows[n];
        }
        if (t > 0) fetch(t - 1);
        finish_exchange(exchange);

        // Each warp of a pair has half of the columns and the rows of both: they swap, and add in the same order.
        float sum[1][N][4] = {};
        weights.multiply(sum, me, me.tile(buffer_of(exchange)));
        report_read(me.lane, t > 0);
        const bool second = me.warp % 2;
#pragma unroll
        for (int n = 0; n < N; n++)
            me.swap(me.warp, n)[me.lane] = second ? float2{sum[0][n][0], sum[0][n][1]} : float2{sum[0][n][2], sum[0][n][3]};
        dev::pair_barrier();
#pragma unroll
        for (int n = 0; n < N; n++) {
            const float2 other = me.swap(me.warp ^ 1, n)[me.lane];
            dh[n][0] = (second ? sum[0][n][2] : sum[0][n][0]) + other.x;
            dh[n][1] = (second ? sum[0][n][3] : sum[0][n][1]) + other.y;
        }
    }
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int b = me.sequence(n, j);
            if (!me.real(b)) continue;
            d_h0[me.at(0, b, me.unit())] = dh[n][j];
            d_c0[me.at(0, b, me.unit())] = dc[n][j];
        }
    close_exchange();
}
