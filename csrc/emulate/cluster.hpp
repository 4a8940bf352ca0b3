// What a cluster has: blocks with shared memory, warps, barriers, and counters of arrivals and bytes.
#pragma once
#include <cstring>
#include <memory>
#include <vector>

#include "schedule.hpp"

inline Schedule* schedule;

[[noreturn]] inline void fail(const char* what) { throw what; }  // ends the run, which returns it

class Barrier {
  public:
    explicit Barrier(int threads) : threads_(threads) {}
    // The last thread to come does `work`, then all go on.
    template <class Work> void meet(Work&& work) {
        if (static_cast<int>(waiting_.size()) + 1 < threads_) {
            waiting_.push_back(schedule->current());
            schedule->pause();
            return;
        }
        work();
        for (int fibre : waiting_) schedule->wake(fibre);
        waiting_.clear();
    }
    void meet() {
        meet([] {});
    }

  private:
    int threads_;
    std::vector<int> waiting_;
};

class Counter {  // an mbarrier
  public:
    void set(int arrivals) { expected_ = pending_ = arrivals, bytes_ = 0, phase_ = 0; }
    void update(int arrivals, long bytes) {
        if (expected_ == 0) fail("a counter is used before it is set");
        if (pending_ < arrivals) fail("more arrivals than the counter expects");
        pending_ -= arrivals;
        bytes_ += bytes;
        if (pending_ > 0 || bytes_ != 0) return;
        pending_ = expected_;
        phase_++;
        for (int fibre : waiting_) schedule->wake(fibre);
        waiting_.clear();
    }
    void wait(unsigned parity) {
        while (phase_ % 2 == parity) {
            waiting_.push_back(schedule->current());
            schedule->pause();
        }
    }

  private:
    int expected_ = 0, pending_ = 0;
    long bytes_ = 0;
    unsigned phase_ = 0;
    std::vector<int> waiting_;
};

struct Warp {
    Barrier lanes{32};
    const void* operation = nullptr;     // all lanes of a collective instruction must be at the same one
    uint32_t a[32][4], b[32][2];         // what each lane brings
    float* d[32];
    uint32_t* word[32];
    uint16_t* row[32];
};

struct Block {
    Block(int threads, size_t bytes) : memory(bytes / 2, 0x7fff), barrier(threads), warps(threads / 32) {
        for (int i = 0; i < threads / 64; i++) pairs.emplace_back(64);
    }
    std::vector<uint16_t> memory;        // starts as NaN in every type: reading what nobody wrote shows up in the result
    Barrier barrier;
    std::vector<Barrier> pairs;
    std::vector<Warp> warps;
    Counter counters[3];
    bool ended = false;
    int running = 0;
};

struct Cluster {
    Cluster(int size, int threads, size_t bytes) : barrier(size * threads) {
        for (int i = 0; i < size; i++) blocks.push_back(std::make_unique<Block>(threads, bytes));
    }
    std::vector<std::unique_ptr<Block>> blocks;
    Barrier barrier;
};
