#include "sparse_transpose_kernels.h"

namespace fwdkern {

namespace {

constexpr int kLanes = 16;

int64_t list(const float* in, const uint8_t* bits, const float* bias, int64_t channels, int32_t* number, float* value,
             float* mass) {
    int64_t count = 0;
    for (int64_t c = 0; c < channels; ++c) {
        if (in[c] == 0 || (bits && !(bits[c / 8] >> (c % 8) & 1))) continue;
        number[count] = static_cast<int32_t>(c);
        value[count++] = in[c];
        if (bias) mass[c % kLanes] += in[c] * bias[c];
    }
    return count;
}

void product(const int32_t* number, const float* value, int64_t count, const float* weight, int64_t stride,
             int64_t vectors, float* sums) {
    for (int64_t v = 0; v < vectors; ++v) {
        float sum[kLanes] = {};
        for (int64_t j = 0; j < count; ++j) {
            const float* from = weight + number[j] * stride + v * kLanes;
            for (int i = 0; i < kLanes; ++i) sum[i] += value[j] * from[i];
        }
        for (int i = 0; i < kLanes; ++i) sums[v * kLanes + i] = sum[i];
    }
}

void add(const float* from, int64_t count, float* to) {
    for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

}  // namespace

const TransposeKernels transpose_kernels_scalar = {list, product, add};

}  // namespace fwdkern
