#pragma once

// The only header of the instruction-set files; it must not define functions.
#include <cstdint>

namespace fwdkern {

struct GateKernels {
    // Bit c of bits tells whether values[c] is above 0; the last byte is filled up with 0.
    void (*pack)(const float* values, int64_t channels, uint8_t* bits);
    // out[c] = in[c] where bit c is set, else 0.
    void (*apply)(const float* in, const uint8_t* bits, int64_t channels, float* out);
};

extern const GateKernels gate_kernels_scalar;
extern const GateKernels gate_kernels_avx2;
extern const GateKernels gate_kernels_avx512;

}  // namespace fwdkern
