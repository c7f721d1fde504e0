#include "gate_kernels.h"

namespace fwdkern {

namespace {

void pack(const float* values, int64_t channels, uint8_t* bits) {
    for (int64_t c = 0; c < channels; c += 8) {
        unsigned byte = 0;
        for (int64_t i = 0; i < 8 && c + i < channels; ++i) byte |= static_cast<unsigned>(values[c + i] > 0) << i;
        bits[c / 8] = static_cast<uint8_t>(byte);
    }
}

void apply(const float* in, const uint8_t* bits, int64_t channels, float* out) {
    for (int64_t c = 0; c < channels; ++c) out[c] = bits[c / 8] >> (c % 8) & 1 ? in[c] : 0.f;
}

}  // namespace

const GateKernels gate_kernels_scalar = {pack, apply};

}  // namespace fwdkern
