#pragma once

#include <cstdint>

#include "fwdkern/isa.h"

namespace fwdkern {

// A gate keeps one bit a unit: byte [image, position, channel / 8], bit channel % 8, set where the unit is open.
inline int64_t gate_bytes(int64_t channels) { return (channels + 7) / 8; }

struct GateBits {
    const float* values;  // [images, channels, positions]; a unit is open where its value is above 0
    int64_t images, channels, positions;
    int64_t image_stride, channel_stride, position_stride;  // of values, in elements
    uint8_t* bits;                                          // [images, positions, gate_bytes(channels)]
};

void gate_bits(const GateBits& call, Isa isa, int threads);

struct GateMaps {
    const float* in;  // [images, height, width, channels], channels contiguous
    int64_t images, height, width, channels;
    int64_t image_stride, line_stride, position_stride;  // of in, in elements
    const uint8_t* bits;                                 // [gates, height, width, gate_bytes(channels)]
    int64_t gates;                                       // image i goes through gate i % gates
    float* out;                                          // [images, height, width, channels], contiguous
};

// out = in where the gate is open, else 0.
void gate_maps(const GateMaps& call, Isa isa, int threads);

}  // namespace fwdkern
