#pragma once

// The only header of the instruction-set files; it must not define functions.
#include <cstdint>

namespace fwdkern {

// One instruction set's micro-kernels and their tile numbers.
struct GemmKernels {
    int tile_rows;        // output rows of one packed panel, at most
    int64_t depth_block;  // weights per panel row between two visits of the output

    // packed[k, tile_rows] gets weight_rows[k][columns[m]] in its first `rows` columns; the rest is undefined.
    // columns ascend, columns[rows - 1] < width, and every weight row has `width` elements.
    void (*pack)(const float* const* weight_rows, int64_t depth, const int32_t* columns, int rows,
                 int64_t width, float* packed);

    // out[m, s] = scale[m] * sum_k packed[k, m] * in_rows[k][s], plus the previous out[m, s] where accumulate;
    // m < rows <= tile_rows, s < slices; scale may be null. One function per storage of the input rows.
    void (*multiply[2])(const float* packed, const void* const* in_rows, int64_t depth, int rows, int64_t slices,
                        const float* scale, bool accumulate, float* out, int64_t out_stride);
};

extern const GemmKernels gemm_kernels_scalar;
extern const GemmKernels gemm_kernels_avx2;
extern const GemmKernels gemm_kernels_avx512;

}  // namespace fwdkern
