#pragma once

#include <cstdint>

#include "fwdkern/cuda/maps.h"

namespace fwdkern::cuda {

// A gate keeps one bit a unit: byte [image, position, channel / 8], bit channel % 8, set where the unit is open.
inline int64_t gate_bytes(int64_t channels) { return (channels + 7) / 8; }

struct GateBits {
    const void* values;  // [images, channels, positions]; a unit is open where its value is above 0, or true
    Type type;           // boolean too
    int64_t images, channels, positions;
    int64_t image_stride, channel_stride, position_stride;  // of values, in elements
    uint8_t* bits;                                          // [images, positions, gate_bytes(channels)]
};

const char* gate_bits_error(const GateBits& call);
const char* gate_bits(const GateBits& call, void* stream);
const char* gate_bits_emulated(const GateBits& call);

// out = in where the gate is open, else 0.
struct GateMaps {
    const void* in;  // [images, height, width, channels], channels contiguous
    Type type;
    int64_t images;
    int height, width;
    int64_t channels;
    int64_t image_stride, line_stride, position_stride;  // of in, in elements
    const uint8_t* bits;                                 // [gates, height, width, gate_bytes(channels)]
    int64_t gates;                                       // image i goes through gate i % gates
    void* out;                                           // [images, height, width, channels], contiguous
};

const char* gate_maps_error(const GateMaps& call);
const char* gate_maps(const GateMaps& call, void* stream);
const char* gate_maps_emulated(const GateMaps& call);

}  // namespace fwdkern::cuda
