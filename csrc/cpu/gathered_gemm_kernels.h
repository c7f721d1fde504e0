#pragma once

// The only header of the instruction-set files; it must not define functions.
#include <cstdint>

namespace fwdkern {

// One instruction set's micro-kernels and their tile numbers.
struct GemmKernels {
    int tile_rows;        // output rows of one packed panel, at most
    int64_t depth_block;  // weights per panel row between two visits of the output

    // For every panel p: packed[p, k, m - panel_begin[p]] = weight_rows[k][columns[m]] for m in
    // [panel_begin[p], panel_begin[p + 1]), at most tile_rows of them; packed is [panels, depth, tile_rows] and
    // undefined elsewhere. columns ascend below `width`, the number of elements of a weight row.
    void (*pack)(const float* const* weight_rows, int64_t depth, const int32_t* columns,
                 const int32_t* panel_begin, int64_t panels, int64_t width, float* packed);

    // out[m, s] = scale[m] * sum_k packed[k, m] * in_rows[k][s], plus the previous out[m, s] where accumulate;
    // m < rows <= tile_rows, s < slices; scale may be null. One function per storage of the input rows.
    void (*multiply[2])(const float* packed, const void* const* in_rows, int64_t depth, int rows, int64_t slices,
                        const float* scale, bool accumulate, float* out, int64_t out_stride);
};

extern const GemmKernels gemm_kernels_scalar;
extern const GemmKernels gemm_kernels_avx2;
extern const GemmKernels gemm_kernels_avx512;

}  // namespace fwdkern
