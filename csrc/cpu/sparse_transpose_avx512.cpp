#include "sparse_transpose_kernels.h"

#include <immintrin.h>

namespace fwdkern {

namespace {

constexpr int kLanes = 16;
constexpr int kMost = 12;  // sums in registers

__mmask16 mask_of(int64_t count) { return count >= kLanes ? 0xffff : static_cast<__mmask16>((1u << count) - 1); }

int64_t list(const float* in, const uint8_t* bits, const float* bias, int64_t channels, int32_t* number, float* value,
             float* mass) {
    int64_t count = 0;
    __m512 sum = _mm512_loadu_ps(mass);
    __m512i own = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int64_t c = 0; c < channels; c += kLanes) {
        const int64_t left = channels - c;
        unsigned inside = mask_of(left);
        if (bits) inside &= bits[c / 8] | (left > 8 ? bits[c / 8 + 1] << 8 : 0);
        const __m512 entries = _mm512_maskz_loadu_ps(static_cast<__mmask16>(inside), in + c);
        const __mmask16 there = _mm512_cmp_ps_mask(entries, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        if (bias) sum = _mm512_fmadd_ps(entries, _mm512_maskz_loadu_ps(there, bias + c), sum);
        // Compressing into memory is microcode on some machines; into a register it is not.
        _mm512_storeu_ps(value + count, _mm512_maskz_compress_ps(there, entries));
        _mm512_storeu_si512(number + count, _mm512_maskz_compress_epi32(there, own));
        count += __builtin_popcount(there);
        own = _mm512_add_epi32(own, _mm512_set1_epi32(kLanes));
    }
    _mm512_storeu_ps(mass, sum);
    return count;
}

template <int N>
void block(const int32_t* number, const float* value, int64_t count, const float* weight, int64_t stride, float* sums) {
    __m512 sum[N];
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) sum[v] = _mm512_setzero_ps();
    for (int64_t j = 0; j < count; ++j) {
        const float* from = weight + number[j] * stride;
        const __m512 factor = _mm512_set1_ps(value[j]);
#pragma GCC unroll 16
        for (int v = 0; v < N; ++v) sum[v] = _mm512_fmadd_ps(factor, _mm512_loadu_ps(from + v * kLanes), sum[v]);
    }
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) _mm512_storeu_ps(sums + v * kLanes, sum[v]);
}

using Block = void (*)(const int32_t*, const float*, int64_t, const float*, int64_t, float*);
constexpr Block kBlocks[kMost + 1] = {nullptr,  block<1>, block<2>, block<3>, block<4>,  block<5>, block<6>,
                                      block<7>, block<8>, block<9>, block<10>, block<11>, block<12>};

void product(const int32_t* number, const float* value, int64_t count, const float* weight, int64_t stride,
             int64_t vectors, float* sums) {
    while (vectors > 0) {
        const int64_t now = vectors < kMost ? vectors : kMost;
        kBlocks[now](number, value, count, weight, stride, sums);
        vectors -= now;
        weight += now * kLanes;
        sums += now * kLanes;
    }
}

void add(const float* from, int64_t count, float* to) {
    for (int64_t i = 0; i < count; i += kLanes) {
        const __mmask16 inside = mask_of(count - i);
        const __m512 sum = _mm512_add_ps(_mm512_maskz_loadu_ps(inside, to + i), _mm512_maskz_loadu_ps(inside, from + i));
        _mm512_mask_storeu_ps(to + i, inside, sum);
    }
}

}  // namespace

const TransposeKernels transpose_kernels_avx512 = {list, product, add};

}  // namespace fwdkern
