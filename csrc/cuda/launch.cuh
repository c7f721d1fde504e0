#pragma once

#include <cuda_runtime.h>

#include "block.h"

namespace fwdkern::cuda {

inline const char* text_of(cudaError_t status) { return status == cudaSuccess ? nullptr : cudaGetErrorString(status); }

template <class Body>
__global__ void __launch_bounds__(Body::kThreads) run(const __grid_constant__ Body body) {
    __shared__ typename Body::Shared shared;
    DeviceBlock block = {blockIdx.x, blockIdx.y};
    body(block, shared);
}

// A launcher: on a stream, without waiting.
struct OnStream {
    void* stream;

    template <class Body>
    const char* operator()(const Body& body, Grid grid) const {
        if (grid.x == 0 || grid.y == 0) return nullptr;
        if (grid.x > 0x7fffffff || grid.y > 0xffff) return "the call needs more blocks than one launch may have";
        const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y));
        run<Body><<<blocks, Body::kThreads, 0, static_cast<cudaStream_t>(stream)>>>(body);
        return text_of(cudaGetLastError());
    }
};

}  // namespace fwdkern::cuda
