#include "gathered_gemm_launch.cuh"

namespace fwdkern::cuda {

const char* launch_gemm(Gemm<Precision::tf32, float>, TileShape shape, const GemmArguments& arguments, Grid grid,
                        void* stream) {
    return launch_gemm_kernel<Precision::tf32, float>(shape, arguments, grid, stream);
}

const char* launch_gemm(Gemm<Precision::tf32, Bfloat16>, TileShape shape, const GemmArguments& arguments, Grid grid,
                        void* stream) {
    return launch_gemm_kernel<Precision::tf32, Bfloat16>(shape, arguments, grid, stream);
}

const char* launch_gemm(Gemm<Precision::tf32, Float16>, TileShape shape, const GemmArguments& arguments, Grid grid,
                        void* stream) {
    return launch_gemm_kernel<Precision::tf32, Float16>(shape, arguments, grid, stream);
}

}  // namespace fwdkern::cuda
