#include "max_pool_kernels.h"

#include <immintrin.h>

namespace fwdkern {

namespace {

constexpr int kLanes = 16;

__mmask16 mask_of(int64_t count) { return count >= kLanes ? 0xffff : static_cast<__mmask16>((1u << count) - 1); }

void largest(const float* const* from, const uint8_t* place, int64_t count, int64_t channels, float* out,
             uint8_t* winner) {
    for (int64_t c = 0; c < channels; c += kLanes) {
        const __mmask16 inside = mask_of(channels - c);
        __m512 best = _mm512_maskz_loadu_ps(inside, from[0] + c);
        __m512i at = _mm512_set1_epi32(place[0]);
        for (int64_t j = 1; j < count; ++j) {
            const __m512 value = _mm512_maskz_loadu_ps(inside, from[j] + c);
            const __mmask16 wins = _mm512_cmp_ps_mask(value, best, _CMP_GT_OQ) | _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
            best = _mm512_mask_mov_ps(best, wins, value);
            at = _mm512_mask_mov_epi32(at, wins, _mm512_set1_epi32(place[j]));
        }
        _mm512_mask_storeu_ps(out + c, inside, best);
        _mm_mask_storeu_epi8(winner + c, inside, _mm512_cvtepi32_epi8(at));
    }
}

void pulled(const float* const* from, const uint8_t* const* winner, const uint8_t* place, int64_t count,
            int64_t channels, float* in) {
    for (int64_t c = 0; c < channels; c += kLanes) {
        const __mmask16 inside = mask_of(channels - c);
        __m512 sum = _mm512_setzero_ps();
        for (int64_t j = 0; j < count; ++j) {
            const __m128i places = _mm_maskz_loadu_epi8(inside, winner[j] + c);
            const __mmask16 won = _mm_mask_cmpeq_epi8_mask(inside, places, _mm_set1_epi8(static_cast<char>(place[j])));
            sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(won, from[j] + c));
        }
        _mm512_mask_storeu_ps(in + c, inside, sum);
    }
}

}  // namespace

const PoolKernels pool_kernels_avx512 = {largest, pulled};

}  // namespace fwdkern
