#include "gathered_gemm_launch.cuh"

namespace fwdkern::cuda {

const char* launch_gemm(Gemm<Precision::ieee, float>, TileShape shape, const GemmArguments& arguments, Grid grid,
                        void* stream) {
    return launch_gemm_kernel<Precision::ieee, float>(shape, arguments, grid, stream);
}

const char* launch_gemm(Gemm<Precision::ieee, Bfloat16>, TileShape shape, const GemmArguments& arguments, Grid grid,
                        void* stream) {
    return launch_gemm_kernel<Precision::ieee, Bfloat16>(shape, arguments, grid, stream);
}

const char* launch_gemm(Gemm<Precision::ieee, Float16>, TileShape shape, const GemmArguments& arguments, Grid grid,
                        void* stream) {
    return launch_gemm_kernel<Precision::ieee, Float16>(shape, arguments, grid, stream);
}

}  // namespace fwdkern::cuda
