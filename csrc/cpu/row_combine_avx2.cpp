#include "row_combine_kernels.h"

#include <immintrin.h>

namespace fwdkern {

namespace {

constexpr int kVectors = 4;
constexpr int kLanes = 8;

__m256 load(const float* from) { return _mm256_loadu_ps(from); }

__m256 load(const uint16_t* from) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

float widen(float value) { return value; }

float widen(uint16_t value) { return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(value << 16))); }

template <typename T, int Vectors>
void block(const char* in, int64_t row_bytes, const int32_t* index, const float* coefficient, int64_t terms,
           int64_t begin, bool accumulate, float* out) {
    __m256 sum[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v)
        sum[v] = accumulate ? _mm256_loadu_ps(out + begin + v * kLanes) : _mm256_setzero_ps();
    for (int64_t j = 0; j < terms; ++j) {
        const T* from = reinterpret_cast<const T*>(in + index[j] * row_bytes) + begin;
        const __m256 factor = _mm256_set1_ps(coefficient[j]);
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) sum[v] = _mm256_fmadd_ps(factor, load(from + v * kLanes), sum[v]);
    }
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) _mm256_storeu_ps(out + begin + v * kLanes, sum[v]);
}

template <typename T>
void combine(const char* in, int64_t row_bytes, const int32_t* index, const float* coefficient, int64_t terms,
             int64_t slices, bool accumulate, float* out) {
    int64_t begin = 0;
    for (; begin + kVectors * kLanes <= slices; begin += kVectors * kLanes)
        block<T, kVectors>(in, row_bytes, index, coefficient, terms, begin, accumulate, out);
    for (; begin + kLanes <= slices; begin += kLanes)
        block<T, 1>(in, row_bytes, index, coefficient, terms, begin, accumulate, out);
    for (; begin < slices; ++begin) {
        float sum = accumulate ? out[begin] : 0.0f;
        for (int64_t j = 0; j < terms; ++j)
            sum += coefficient[j] * widen(reinterpret_cast<const T*>(in + index[j] * row_bytes)[begin]);
        out[begin] = sum;
    }
}

}  // namespace

const CombineKernels combine_kernels_avx2 = {{combine<float>, combine<uint16_t>}};

}  // namespace fwdkern
