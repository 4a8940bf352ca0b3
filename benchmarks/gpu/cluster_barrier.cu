// Two ways for the blocks of a cluster to wait for each other once per step, with data exchanged and checked.
//
// METHOD 0: barrier.cluster (arrive.release, wait.acquire). METHOD 1: each block sends 16 bytes to every peer with st.async,
// which counts down an mbarrier there. Freestanding: no header, so that NVRTC compiles it without a toolkit.
// Compiled with -DSIZE=blocks per cluster and -DMETHOD=0 or 1. Never run on a GPU by its authors.

#ifndef SIZE
#define SIZE 4
#endif
#ifndef METHOD
#define METHOD 1
#endif

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}
__device__ __forceinline__ unsigned cluster_rank() {
    unsigned rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
__device__ __forceinline__ void cluster_sync() {
    __syncwarp();                                          // .aligned asks for whole warps
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ __forceinline__ unsigned peer_address(unsigned address, unsigned rank) {
    unsigned to;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(address), "r"(rank));
    return to;
}

// wrong: one int per block, the number of steps in which a peer's word was not that step's.
extern "C" __global__ void __cluster_dims__(SIZE, 1, 1) __launch_bounds__(128)
cluster_barrier(int* wrong, int steps) {
    __shared__ __align__(16) int inbox[2][SIZE][4];        // what each peer wrote in an even or odd step
    __shared__ __align__(8) unsigned long long ready[2];   // one mbarrier per inbox
    const unsigned me = cluster_rank(), thread = threadIdx.x;
    if (METHOD == 1 && thread == 0) {
        for (int i = 0; i < 2; i++)
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(&ready[i])) : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    cluster_sync();
    int bad = 0;
    for (int step = 0; step < steps; step++) {
        const int which = step & 1;
        if (METHOD == 1 && thread == 0)
            asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&ready[which])),
                         "r"(SIZE * 16) : "memory");
        if (thread < SIZE) {                               // thread p writes to peer p
            const unsigned to = peer_address(shared_address(&inbox[which][me][0]), thread);
            if (METHOD == 1) {
                const unsigned counter = peer_address(shared_address(&ready[which]), thread);
                asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %1, %1, %1}, [%2];"
                             ::"r"(to), "r"(step), "r"(counter) : "memory");
            } else {
                asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(to), "r"(step) : "memory");
            }
        }
        if (METHOD == 1) {
            asm volatile("{\n.reg .pred done;\nagain:\n"
                         "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
                         "@!done bra again;\n}" ::"r"(shared_address(&ready[which])), "r"(step / 2 & 1) : "memory");
        } else {
            cluster_sync();
        }
        if (thread < SIZE) bad += *static_cast<volatile int*>(&inbox[which][thread][0]) != step;
        // A peer overwrites this inbox two steps on, and only after it has this block's word of the next step, which
        // the same threads send after this read. So one wait per step is enough with two inboxes.
    }
    cluster_sync();                                        // no block leaves while a peer may still write to it
    if (thread < SIZE) atomicAdd(&wrong[blockIdx.x], bad);
}
