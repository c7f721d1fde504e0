#include "gate_kernels.h"

#include <immintrin.h>

namespace fwdkern {

namespace {

void pack(const float* values, int64_t channels, uint8_t* bits) {
    int64_t c = 0;
    for (; c + 8 <= channels; c += 8) {
        const __m256 open = _mm256_cmp_ps(_mm256_loadu_ps(values + c), _mm256_setzero_ps(), _CMP_GT_OQ);
        bits[c / 8] = static_cast<uint8_t>(_mm256_movemask_ps(open));
    }
    if (c < channels) {
        unsigned byte = 0;
        for (int64_t i = 0; c + i < channels; ++i) byte |= static_cast<unsigned>(values[c + i] > 0) << i;
        bits[c / 8] = static_cast<uint8_t>(byte);
    }
}

void apply(const float* in, const uint8_t* bits, int64_t channels, float* out) {
    const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    int64_t c = 0;
    for (; c + 8 <= channels; c += 8) {
        const __m256i own = _mm256_and_si256(_mm256_set1_epi32(bits[c / 8]), each);
        const __m256 open = _mm256_castsi256_ps(_mm256_cmpeq_epi32(own, each));
        _mm256_storeu_ps(out + c, _mm256_and_ps(open, _mm256_loadu_ps(in + c)));
    }
    for (; c < channels; ++c) out[c] = bits[c / 8] >> (c % 8) & 1 ? in[c] : 0.f;
}

}  // namespace

const GateKernels gate_kernels_avx2 = {pack, apply};

}  // namespace fwdkern
