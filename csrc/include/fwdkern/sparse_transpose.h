#pragma once

#include <cstdint>

#include "fwdkern/isa.h"
#include "fwdkern/max_pool.h"

namespace fwdkern {

// Transpose of a 2-d convolution and of the gate and the max pool behind it, applied to pulled maps most of whose entries are 0: only the others are multiplied.
// Channels are contiguous in all tensors; float32.
struct SparseTranspose {
    const float* in;  // [images, in_height, in_width, in_channels], what the convolution's outputs were pulled to
    int64_t images, in_height, in_width, in_channels;
    int64_t image_stride, line_stride, position_stride;  // of in, in elements
    const MaxUnpool* pool;  // where a pool was behind the gate; in and its strides are then unused, its maps are pool->out
    const uint8_t* bits;  // a gate in front of in, as in gate.h, or null; image i goes through gate i % gates
    int64_t gates;
    const float* bias;    // [in_channels], or null
    const float* weight;  // [in_channels, kernel_height, padded_run(...)], 0 behind a run
    int64_t kernel_height, kernel_width;
    int64_t stride_y, stride_x, padding_y, padding_x;
    float* out;  // [images, out_height, out_width, out_channels], contiguous, overwritten
    int64_t out_height, out_width, out_channels;
    float* mass;  // [images, mass_parts(out_height)]: parts of the sums of bias times gated in; null without bias
};

int64_t mass_parts(int64_t out_height);

// The entries of a line of the kernel, [kernel_width, out_channels], lie behind each other in weight and in out alike.
// In weight such a run is padded to whole vectors.
inline int64_t padded_run(int64_t kernel_width, int64_t out_channels) { return (kernel_width * out_channels + 15) / 16 * 16; }

void sparse_transpose(const SparseTranspose& call, Isa isa, int threads);

}  // namespace fwdkern
