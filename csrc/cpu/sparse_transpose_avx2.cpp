#include "sparse_transpose_kernels.h"

#include <immintrin.h>

namespace fwdkern {

namespace {

constexpr int kLanes = 8;
constexpr int kMost = 12;  // sums in registers

int64_t list(const float* in, const uint8_t* bits, const float* bias, int64_t channels, int32_t* number, float* value,
             float* mass) {
    int64_t count = 0, c = 0;
    for (; c + kLanes <= channels; c += kLanes) {
        const __m256 unequal = _mm256_cmp_ps(_mm256_loadu_ps(in + c), _mm256_setzero_ps(), _CMP_NEQ_UQ);
        for (int mask = _mm256_movemask_ps(unequal) & (bits ? bits[c / 8] : 0xff); mask; mask &= mask - 1) {
            const int i = __builtin_ctz(mask);
            number[count] = static_cast<int32_t>(c + i);
            value[count++] = in[c + i];
            if (bias) mass[i] += in[c + i] * bias[c + i];
        }
    }
    for (; c < channels; ++c) {
        if (in[c] == 0 || (bits && !(bits[c / 8] >> (c % 8) & 1))) continue;
        number[count] = static_cast<int32_t>(c);
        value[count++] = in[c];
        if (bias) mass[c % kLanes] += in[c] * bias[c];
    }
    return count;
}

template <int N>
void block(const int32_t* number, const float* value, int64_t count, const float* weight, int64_t stride, float* sums) {
    __m256 sum[N];
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) sum[v] = _mm256_setzero_ps();
    for (int64_t j = 0; j < count; ++j) {
        const float* from = weight + number[j] * stride;
        const __m256 factor = _mm256_broadcast_ss(value + j);
#pragma GCC unroll 16
        for (int v = 0; v < N; ++v) sum[v] = _mm256_fmadd_ps(factor, _mm256_loadu_ps(from + v * kLanes), sum[v]);
    }
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) _mm256_storeu_ps(sums + v * kLanes, sum[v]);
}

void product(const int32_t* number, const float* value, int64_t count, const float* weight, int64_t stride,
             int64_t vectors, float* sums) {
    int64_t left = 2 * vectors;
    for (; left >= kMost; left -= kMost, weight += kMost * kLanes, sums += kMost * kLanes)
        block<kMost>(number, value, count, weight, stride, sums);
    for (; left > 0; left -= 2, weight += 2 * kLanes, sums += 2 * kLanes)
        block<2>(number, value, count, weight, stride, sums);
}

void add(const float* from, int64_t count, float* to) {
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        _mm256_storeu_ps(to + i, _mm256_add_ps(_mm256_loadu_ps(to + i), _mm256_loadu_ps(from + i)));
    for (; i < count; ++i) to[i] += from[i];
}

}  // namespace

const TransposeKernels transpose_kernels_avx2 = {list, product, add};

}  // namespace fwdkern
