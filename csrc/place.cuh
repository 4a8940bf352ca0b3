// Who a thread is and where its things lie: the same in both directions.
#pragma once

// A warp owns 8 units and all sequences of its cluster's tile. In the product lane l has unit l / 4 and, of each 8 sequences,
// two: l % 4 * 2 and the next. In moves of 16 bytes (8 units of one sequence) it has gate l / 8 of sequence l % 8.
struct Place {
    int rank, warp, lane;
    int first_sequence;            // of the tile
    int first_unit;                // of the warp
    int T, B, H;

    __device__ __forceinline__ Place(int steps, int batch, int units)
        : rank(dev::cluster_rank()), warp(threadIdx.x / 32), lane(threadIdx.x % 32),
          first_sequence(static_cast<int>(blockIdx.x) / CLUSTER * TILE),
          first_unit((rank * WARPS + warp) * 8), T(steps), B(batch), H(units) {}

    __device__ __forceinline__ int unit() const { return first_unit + lane / 4; }
    __device__ __forceinline__ int sequence(int n, int j) const { return first_sequence + n * 8 + lane % 4 * 2 + j; }
    __device__ __forceinline__ int row_sequence(int n) const { return first_sequence + n * 8 + lane % 8; }
    // units come in eights, so a warp has all of its units inside H or none
    __device__ __forceinline__ bool real(int sequence) const { return sequence < B && first_unit < H; }
    // of [steps, B, H]; 64 bits, since T B H may exceed 2^31
    __device__ __forceinline__ size_t at(int step, int sequence, int unit) const {
        return (static_cast<size_t>(step) * B + sequence) * H + unit;
    }
    // of [steps, B, 4 H], gates i f g o: the row of this lane
    __device__ __forceinline__ size_t gate_row(int step, int sequence) const {
        return ((static_cast<size_t>(step) * B + sequence) * 4 + lane / 8) * H + first_unit;
    }
    __device__ __forceinline__ bool kept(const unsigned char* keep, int step, int sequence) const {
        return !keep || sequence >= B || keep[static_cast<size_t>(step) * B + sequence];
    }

    __device__ __forceinline__ uint16_t* tile(int buffer) const {
        return reinterpret_cast<uint16_t*>(dev::shared_memory() + COUNTERS) + buffer * TILE * LD;
    }
    __device__ __forceinline__ uint4* resident() const {  // [FRAGMENTS - HELD][32]
        return reinterpret_cast<uint4*>(dev::shared_memory() + COUNTERS + EXCHANGE) + warp * (FRAGMENTS - HELD) * 32;
    }
    __device__ __forceinline__ uint16_t* stage(int n) const {  // [5][8][8]
        return reinterpret_cast<uint16_t*>(dev::shared_memory() + COUNTERS + EXCHANGE + RESIDENT) +
               (warp * N + n) * STAGE_ROWS * 8;
    }
    __device__ __forceinline__ float2* swap(int of_warp, int n) const {  // [32]
        return reinterpret_cast<float2*>(dev::shared_memory() + COUNTERS + EXCHANGE + RESIDENT + STAGING) +
               (of_warp * N + n) * 32;
    }
};

__device__ __forceinline__ uint4 load16(const uint16_t* from, bool real) {
    return real ? *reinterpret_cast<const uint4*>(from) : uint4{0u, 0u, 0u, 0u};
}
__device__ __forceinline__ uint4 masked(uint4 v, bool keep) { return keep ? v : uint4{0u, 0u, 0u, 0u}; }

// Rows of 16 bytes (gate l / 8, sequence l % 8) become values of the product's layout: v[gate] = this unit, two sequences.
__device__ __forceinline__ void rows_to_pairs(uint32_t (&v)[4], uint16_t* stage, uint4 row, int lane) {
    *reinterpret_cast<uint4*>(stage + lane * 8) = row;
    dev::warp_sync();
    dev::load_tiles_transposed(v, stage + lane * 8);
    dev::warp_sync();  // before the stage is written again
}
