#pragma once

// The only header of the instruction-set files; it must not define functions.
#include <cstdint>

namespace fwdkern {

struct TransposeKernels {
    // Numbers and values of the entries of in [channels] that are not 0 and, unless bits is null, whose bit is set;
    // returns how many. Both lists have room for channels + 16 entries. Unless bias is null, the listed entries times
    // theirs are added to the 16 sums of mass.
    int64_t (*list)(const float* in, const uint8_t* bits, const float* bias, int64_t channels, int32_t* number,
                    float* value, float* mass);
    // sums[i] = sum over j < count of value[j] * weight[number[j] * stride + i], for `vectors` * 16 floats.
    void (*product)(const int32_t* number, const float* value, int64_t count, const float* weight, int64_t stride,
                    int64_t vectors, float* sums);
    // to[i] += from[i]
    void (*add)(const float* from, int64_t count, float* to);
};

extern const TransposeKernels transpose_kernels_scalar;
extern const TransposeKernels transpose_kernels_avx2;
extern const TransposeKernels transpose_kernels_avx512;

}  // namespace fwdkern
