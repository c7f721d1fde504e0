#include "max_pool_kernels.h"

#include <immintrin.h>

namespace fwdkern {

namespace {

constexpr int kLanes = 8;

__m256i wide(const uint8_t* bytes) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
}

void largest(const float* const* from, const uint8_t* place, int64_t count, int64_t channels, float* out,
             uint8_t* winner) {
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) {
        __m256 best = _mm256_loadu_ps(from[0] + c);
        __m256i at = _mm256_set1_epi32(place[0]);
        for (int64_t j = 1; j < count; ++j) {
            const __m256 value = _mm256_loadu_ps(from[j] + c);
            const __m256 wins =
                _mm256_or_ps(_mm256_cmp_ps(value, best, _CMP_GT_OQ), _mm256_cmp_ps(value, value, _CMP_UNORD_Q));
            best = _mm256_blendv_ps(best, value, wins);
            at = _mm256_blendv_epi8(at, _mm256_set1_epi32(place[j]), _mm256_castps_si256(wins));
        }
        _mm256_storeu_ps(out + c, best);
        alignas(32) int32_t places[kLanes];
        _mm256_store_si256(reinterpret_cast<__m256i*>(places), at);
        for (int i = 0; i < kLanes; ++i) winner[c + i] = static_cast<uint8_t>(places[i]);
    }
    for (; c < channels; ++c) {
        float best = from[0][c];
        uint8_t at = place[0];
        for (int64_t j = 1; j < count; ++j) {
            const float value = from[j][c];
            if (value > best || value != value) {
                best = value;
                at = place[j];
            }
        }
        out[c] = best;
        winner[c] = at;
    }
}

void pulled(const float* const* from, const uint8_t* const* winner, const uint8_t* place, int64_t count,
            int64_t channels, float* in) {
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) {
        __m256 sum = _mm256_setzero_ps();
        for (int64_t j = 0; j < count; ++j) {
            const __m256i won = _mm256_cmpeq_epi32(wide(winner[j] + c), _mm256_set1_epi32(place[j]));
            sum = _mm256_add_ps(sum, _mm256_and_ps(_mm256_castsi256_ps(won), _mm256_loadu_ps(from[j] + c)));
        }
        _mm256_storeu_ps(in + c, sum);
    }
    for (; c < channels; ++c) {
        float sum = 0;
        for (int64_t j = 0; j < count; ++j)
            if (winner[j][c] == place[j]) sum += from[j][c];
        in[c] = sum;
    }
}

}  // namespace

const PoolKernels pool_kernels_avx2 = {largest, pulled};

}  // namespace fwdkern
