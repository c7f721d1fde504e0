#pragma once

#include <cuda_runtime.h>

#include "gathered_gemm_block.h"
#include "gathered_gemm_tiles.h"
#include "launch.cuh"

namespace fwdkern::cuda {

template <class T>
__global__ void __launch_bounds__(T::kThreads, T::kBlocks) gemm_kernel(const __grid_constant__ GemmArguments call) {
    if constexpr (!T::kTensorCores) {
        plain_block<T>(call, blockIdx.x, blockIdx.y);
    } else {
#if FWDKERN_WARPGROUPS
        tensor_core_block<T, WarpgroupProduct<T>>(call, blockIdx.x, blockIdx.y);
#else
        tensor_core_block<T, WarpProduct<T>>(call, blockIdx.x, blockIdx.y);
#endif
    }
}

template <Precision precision, class In>
const char* launch_gemm_kernel(TileShape shape, const GemmArguments& arguments, Grid grid, void* stream) {
    if (grid.x > 0x7fffffff || grid.y > 0xffff) return "the call needs more blocks than one launch may have";
    return with_tile<precision, In>(shape, [&](auto tile) {
        using T = decltype(tile);
        const cudaError_t status =
            cudaFuncSetAttribute(gemm_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, T::kSharedBytes);
        if (status != cudaSuccess) return text_of(status);
        const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y));
        gemm_kernel<T><<<blocks, T::kThreads, T::kSharedBytes, static_cast<cudaStream_t>(stream)>>>(arguments);
        return text_of(cudaGetLastError());
    });
}

// One of them for each file of kernels, which are compiled side by side.
const char* launch_gemm(Gemm<Precision::ieee, float>, TileShape, const GemmArguments&, Grid, void* stream);
const char* launch_gemm(Gemm<Precision::ieee, Bfloat16>, TileShape, const GemmArguments&, Grid, void* stream);
const char* launch_gemm(Gemm<Precision::ieee, Float16>, TileShape, const GemmArguments&, Grid, void* stream);
const char* launch_gemm(Gemm<Precision::tf32, float>, TileShape, const GemmArguments&, Grid, void* stream);
const char* launch_gemm(Gemm<Precision::tf32, Bfloat16>, TileShape, const GemmArguments&, Grid, void* stream);
const char* launch_gemm(Gemm<Precision::tf32, Float16>, TileShape, const GemmArguments&, Grid, void* stream);
const char* launch_gemm(Gemm<Precision::bf16, float>, TileShape, const GemmArguments&, Grid, void* stream);
const char* launch_gemm(Gemm<Precision::bf16, Bfloat16>, TileShape, const GemmArguments&, Grid, void* stream);

}  // namespace fwdkern::cuda
