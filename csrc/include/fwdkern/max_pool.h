#pragma once

#include <cstdint>

#include "fwdkern/isa.h"

namespace fwdkern {

// Max pooling with one byte a window for its winner: its place in the window, y * kernel_width + x, so that a window
// holds at most 256 places. As in torch the first of equals wins, and a NaN always.
struct MaxPool {
    const float* in;  // [images, in_height, in_width, channels], contiguous
    int64_t images, in_height, in_width, channels;
    int64_t kernel_height, kernel_width, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x;
    float* out;  // [images, out_height, out_width, channels], contiguous
    int64_t out_height, out_width;
    uint8_t* winner;  // like out
};

void max_pool(const MaxPool& call, Isa isa, int threads);

// The transpose with the winners frozen: pulled maps `out` go to `in`, which is overwritten. Image i of the maps has
// the winners of image i % winners.
struct MaxUnpool {
    const float* out;  // [images, out_height, out_width, channels], channels contiguous
    int64_t image_stride, line_stride, position_stride;
    const uint8_t* winner;  // [winners, out_height, out_width, channels], contiguous
    int64_t winners;
    int64_t images, out_height, out_width, channels;
    int64_t kernel_height, kernel_width, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x;
    float* in;  // [images, in_height, in_width, channels], contiguous
    int64_t in_height, in_width;
};

void max_unpool(const MaxUnpool& call, Isa isa, int threads);

// One line of one image of the result, [in_width, channels], into `line`; call.in is not touched.
void max_unpool_line(const MaxUnpool& call, Isa isa, int64_t image, int64_t y, float* line);

}  // namespace fwdkern
