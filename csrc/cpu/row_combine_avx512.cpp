#include "row_combine_kernels.h"

#include <immintrin.h>

namespace fwdkern {

namespace {

constexpr int kVectors = 4;
constexpr int kLanes = 16;

__m512 load(__mmask16 mask, const float* from) { return _mm512_maskz_loadu_ps(mask, from); }

__m512 load(__mmask16 mask, const uint16_t* from) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

__mmask16 mask_of(int64_t slices) {
    if (slices >= kLanes) return 0xffff;
    return slices <= 0 ? 0 : static_cast<__mmask16>((1u << slices) - 1);
}

template <typename T>
void combine(const char* in, int64_t row_bytes, const int32_t* index, const float* coefficient, int64_t terms,
             int64_t slices, bool accumulate, float* out) {
    for (int64_t begin = 0; begin < slices; begin += kVectors * kLanes) {
        __mmask16 mask[kVectors];
        __m512 sum[kVectors];
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
            mask[v] = mask_of(slices - begin - v * kLanes);
            sum[v] = accumulate ? _mm512_maskz_loadu_ps(mask[v], out + begin + v * kLanes) : _mm512_setzero_ps();
        }
        for (int64_t j = 0; j < terms; ++j) {
            const T* from = reinterpret_cast<const T*>(in + index[j] * row_bytes) + begin;
            const __m512 factor = _mm512_set1_ps(coefficient[j]);
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v)
                sum[v] = _mm512_fmadd_ps(factor, load(mask[v], from + v * kLanes), sum[v]);
        }
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) _mm512_mask_storeu_ps(out + begin + v * kLanes, mask[v], sum[v]);
    }
}

}  // namespace

const CombineKernels combine_kernels_avx512 = {{combine<float>, combine<uint16_t>}};

}  // namespace fwdkern
