#pragma once

#include <cstdint>
#include <cstring>

#include "portable.h"

// A kernel's body is a struct with `static constexpr int kThreads`, a type `Shared` of its shared memory (Nothing, if
// it needs none) and
//   template <class Block> FWDKERN_HD void operator()(Block& block, Shared& shared) const
// It is written in phases: block.each(f) runs f(thread) for all threads and ends in a barrier; block.warps(f) runs
// f(warp) likewise, and inside of it warp.each(f) and warp.ballot(f) run f(lane) for all lanes. On a GPU these are one
// thread each, on the CPU loops. There every other block runs its threads and warps backwards, so that a phase that
// needed a barrier inside shows as a wrong result in one of the two.
// What a lane keeps from one call to the next is a warp.per_lane<T>(), indexed by the lane.
namespace fwdkern::cuda {

constexpr int kLanes = 32;

struct Nothing {};

struct Grid {
    int64_t x = 1, y = 1;
};

FWDKERN_HD int64_t blocks_of(int64_t count, int64_t block) { return (count + block - 1) / block; }

#ifdef __CUDACC__

template <class T>
struct OfThisLane {
    T value;
    __device__ __forceinline__ T& operator[](int) { return value; }
};

struct DeviceWarp {
    int index;  // in its block

    template <class T>
    __device__ __forceinline__ OfThisLane<T> per_lane() const {
        return {};
    }

    template <class F>
    __device__ __forceinline__ void each(F f) const {
        f(static_cast<int>(threadIdx.x % kLanes));
    }

    // Bit l: f(l).
    template <class F>
    __device__ __forceinline__ uint32_t ballot(F f) const {
        return __ballot_sync(0xffffffffu, f(static_cast<int>(threadIdx.x % kLanes)));
    }
};

struct DeviceBlock {
    int64_t x, y;

    template <class F>
    __device__ __forceinline__ void each(F f) const {
        f(static_cast<int>(threadIdx.x));
        __syncthreads();
    }

    template <class F>
    __device__ __forceinline__ void warps(F f) const {
        f(DeviceWarp{static_cast<int>(threadIdx.x / kLanes)});
        __syncthreads();
    }
};

#else

template <class T>
struct OfAllLanes {
    T value[kLanes];
    T& operator[](int lane) { return value[lane]; }
};

struct HostWarp {
    int index;

    template <class T>
    OfAllLanes<T> per_lane() const {
        return {};
    }

    template <class F>
    void each(F f) const {
        for (int lane = 0; lane < kLanes; ++lane) f(lane);
    }

    template <class F>
    uint32_t ballot(F f) const {
        uint32_t bits = 0;
        for (int lane = 0; lane < kLanes; ++lane) bits |= static_cast<uint32_t>(static_cast<bool>(f(lane))) << lane;
        return bits;
    }
};

struct HostBlock {
    int64_t x, y;
    int threads;

    template <class F>
    void each(F f) const {
        for (int i = 0; i < threads; ++i) f(in_order(i, threads));
    }

    template <class F>
    void warps(F f) const {
        const int count = threads / kLanes;
        for (int i = 0; i < count; ++i) f(HostWarp{in_order(i, count)});
    }

    int in_order(int i, int count) const { return (x + y) % 2 == 0 ? i : count - 1 - i; }
};

// A launcher: block after block on the CPU.
struct OnHost {
    template <class Body>
    const char* operator()(const Body& body, Grid grid) const {
        for (int64_t y = 0; y < grid.y; ++y)
            for (int64_t x = 0; x < grid.x; ++x) {
                typename Body::Shared shared;
                std::memset(static_cast<void*>(&shared), 0xff, sizeof shared);  // floats: NaN
                HostBlock block = {x, y, Body::kThreads};
                body(block, shared);
            }
        return nullptr;
    }
};

#endif

}  // namespace fwdkern::cuda
