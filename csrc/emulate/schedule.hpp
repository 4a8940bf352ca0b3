// Threads of one cluster as fibres on one CPU thread. A fibre runs until it has to wait; which one goes on is drawn from a
// seeded generator. So one binary tries many orders, any order can be had again, and a deadlock is seen at once. Even seeds
// draw evenly; odd seeds prefer some warps to others throughout, so that those run as far ahead as barriers let them.
#pragma once
#include <ucontext.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <vector>

// When a message between blocks lands: as soon as it is sent, when nothing else can run, or at any time.
enum class Delivery { at_once, late, any_time };

class Schedule {
  public:
    Schedule(unsigned seed, Delivery delivery) : random_(seed), delivery_(delivery), candidates_(seed % 2 ? 8 : 1) {}

    // Runs all bodies to their end. Returns null, or what went wrong: what a body threw, or that somebody waits for ever.
    const char* run(int fibres, const std::function<void(int)>& body) {
        constexpr size_t STACK = 64 * 1024;  // calloc: only pages that are touched exist
        std::unique_ptr<char, decltype(&std::free)> stacks(static_cast<char*>(std::calloc(fibres, STACK)), &std::free);
        contexts_.assign(fibres, ucontext_t{});
        ready_.clear();
        rank_.clear();
        for (int warp = 0; warp < (fibres + 31) / 32; warp++) rank_.push_back(random_());
        left_ = fibres;
        body_ = &body;
        running_ = this;
        for (int i = 0; i < fibres; i++) {
            getcontext(&contexts_[i]);
            contexts_[i].uc_stack.ss_sp = stacks.get() + i * STACK;
            contexts_[i].uc_stack.ss_size = STACK;
            contexts_[i].uc_link = nullptr;
            makecontext(&contexts_[i], reinterpret_cast<void (*)()>(&Schedule::start), 1, i);
            ready_.push_back(i);
        }
        wrong_ = nullptr;
        while (left_ > 0 && !wrong_) {
            if (!messages_.empty() && (ready_.empty() || (delivery_ == Delivery::any_time && random_() % 4 == 0))) {
                deliver();
                continue;
            }
            if (ready_.empty()) return "deadlock";
            current_ = choose();
            swapcontext(&home_, &contexts_[current_]);
        }
        while (!messages_.empty() && !wrong_) deliver();
        return wrong_;
    }
    int current() const { return current_; }
    void pause() { swapcontext(&contexts_[current_], &home_); }  // until somebody calls wake
    void wake(int fibre) { ready_.push_back(fibre); }
    void post(std::function<void()> message) {
        if (delivery_ == Delivery::at_once)
            message();
        else
            messages_.push_back(std::move(message));
    }

  private:
    int choose() {
        size_t best = random_() % ready_.size();
        for (int i = 1; i < candidates_; i++) {
            const size_t other = random_() % ready_.size();
            if (rank_[ready_[other] / 32] > rank_[ready_[best] / 32]) best = other;
        }
        return take(ready_, best);
    }
    template <class T> T take(std::vector<T>& from, size_t which) {
        std::swap(from[which], from.back());
        T last = std::move(from.back());
        from.pop_back();
        return last;
    }
    void deliver() {
        const std::function<void()> message = take(messages_, random_() % messages_.size());
        try {
            message();
        } catch (const char* what) {
            wrong_ = what;
        }
    }
    static void start(int fibre) {
        Schedule& me = *running_;
        try {
            (*me.body_)(fibre);
        } catch (const char* what) {
            me.wrong_ = what;
        }
        me.left_--;
        setcontext(&me.home_);
    }
    static inline Schedule* running_ = nullptr;
    std::mt19937 random_;
    Delivery delivery_;
    int candidates_;
    std::vector<unsigned> rank_;  // of warps
    ucontext_t home_{};
    std::vector<ucontext_t> contexts_;
    std::vector<int> ready_;
    std::vector<std::function<void()>> messages_;
    const std::function<void(int)>* body_ = nullptr;
    const char* wrong_ = nullptr;
    int current_ = 0, left_ = 0;
};
