// One exchange per time step: every warp hands the rows it made to every block of its cluster.
//
// A cluster is scheduled as a whole or not at all, so that waiting inside it cannot deadlock, whatever else runs on the
// device. No barrier of the whole cluster is used within the loop, because its release compiles to a device-wide fence: each
// step would wait for its stores to global memory. Instead rows travel as asynchronous stores that count down the bytes that
// a counter of the receiver expects.
//
// Exchange e goes to buffer (e + 1) % BUFFERS, so that the initial state may lie in buffer 0.
// * Two buffers need no more: a block sends exchange e + 2 after it has exchange e + 1 of every warp, and a warp sends that
//   after its last read of exchange e, which lies in the buffer that e + 2 overwrites.
// * With one buffer (dz of 768 units) each warp reports its last read to all blocks, and nobody sends before all have.
#pragma once

__device__ __forceinline__ constexpr int buffer_of(int exchange) { return (exchange + 1) % BUFFERS; }

// Before the first exchange. Also makes visible what the block has put into its shared memory.
__device__ __forceinline__ void open_exchange() {
    if constexpr (CLUSTER == 1) {
        dev::block_barrier();
    } else {
        if (threadIdx.x == 0) {
            for (int i = 0; i < BUFFERS; i++) dev::set_counter(i, 1);
            if (BUFFERS == 1) dev::set_counter(1, CLUSTER * WARPS);
        }
        dev::cluster_barrier();
    }
}
// Whoever reaches the next exchange first: the counter must know how much will come.
__device__ __forceinline__ void expect_exchange(int exchange) {
    if constexpr (CLUSTER > 1)
        if (threadIdx.x == 0) dev::expect(buffer_of(exchange), TILE * COLUMNS * 2);
}
// One buffer only: the exchange before this one has been read by all.
__device__ __forceinline__ void wait_until_free(int exchange) {
    if constexpr (BUFFERS == 1)
        if (exchange > 0) dev::wait(1, (exchange - 1) % 2);
}
// Not after the last exchange: nobody would wait for it, and a block might have ended when it comes.
__device__ __forceinline__ void report_read(int lane, bool more) {
    if constexpr (BUFFERS == 1) {
        dev::warp_sync();
        if (more && lane < CLUSTER) dev::arrive(1, lane);
    }
}
// `v` is for row `line` of the tile; lanes of one row send it to different blocks where fewer than 32 lanes have one.
__device__ __forceinline__ void send_row(uint16_t* line, int exchange, uint4 v, int lane, int lanes_with_rows, int rank) {
    if constexpr (CLUSTER == 1) {
        if (lane < lanes_with_rows) *reinterpret_cast<uint4*>(line) = v;
    } else {
        const int at_once = 32 / lanes_with_rows;
#pragma unroll
        for (int first = 0; first < CLUSTER; first += at_once) {
            const int peer = first + lane / lanes_with_rows;
            // each block starts with itself, so that not all of them send to the same one
            if (peer < CLUSTER) dev::send(line, buffer_of(exchange), (peer + rank) % CLUSTER, v);
        }
    }
}
__device__ __forceinline__ void finish_exchange(int exchange) {
    if constexpr (CLUSTER == 1)
        dev::block_barrier();
    else
        dev::wait(buffer_of(exchange), exchange / BUFFERS % 2);
    dev::warp_sync();  // lanes may have left the wait one by one, and the product takes whole warps
}
// A block must not end while a peer may still send or report to it.
__device__ __forceinline__ void close_exchange() {
    if constexpr (CLUSTER > 1) dev::cluster_barrier();
}
