#pragma once

// The only header of the instruction-set files; it must not define functions.
#include <cstdint>

namespace fwdkern {

// One output row: out[s] = sum_j coefficient[j] * in_rows[j][s], plus the previous out[s] where accumulate,
// where in_rows[j] = in + index[j] * row_bytes. One function per storage of the input rows.
struct CombineKernels {
    void (*combine[2])(const char* in, int64_t row_bytes, const int32_t* index, const float* coefficient,
                       int64_t terms, int64_t slices, bool accumulate, float* out);
};

extern const CombineKernels combine_kernels_scalar;
extern const CombineKernels combine_kernels_avx2;
extern const CombineKernels combine_kernels_avx512;

}  // namespace fwdkern
