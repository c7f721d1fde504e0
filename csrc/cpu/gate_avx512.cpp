#include "gate_kernels.h"

#include <immintrin.h>

namespace fwdkern {

namespace {

constexpr int kLanes = 16;

__mmask16 mask_of(int64_t count) { return count >= kLanes ? 0xffff : static_cast<__mmask16>((1u << count) - 1); }

void pack(const float* values, int64_t channels, uint8_t* bits) {
    for (int64_t c = 0; c < channels; c += kLanes) {
        const __m512 entries = _mm512_maskz_loadu_ps(mask_of(channels - c), values + c);
        const __mmask16 open = _mm512_cmp_ps_mask(entries, _mm512_setzero_ps(), _CMP_GT_OQ);
        bits[c / 8] = static_cast<uint8_t>(open);
        if (channels - c > 8) bits[c / 8 + 1] = static_cast<uint8_t>(open >> 8);
    }
}

void apply(const float* in, const uint8_t* bits, int64_t channels, float* out) {
    for (int64_t c = 0; c < channels; c += kLanes) {
        const __mmask16 inside = mask_of(channels - c);
        const unsigned high = channels - c > 8 ? bits[c / 8 + 1] : 0;
        const auto open = static_cast<__mmask16>((bits[c / 8] | high << 8) & inside);
        _mm512_mask_storeu_ps(out + c, inside, _mm512_maskz_loadu_ps(open, in + c));
    }
}

}  // namespace

const GateKernels gate_kernels_avx512 = {pack, apply};

}  // namespace fwdkern
