#pragma once

#include <cstdint>

#include "fwdkern/cuda/maps.h"

namespace fwdkern::cuda {

struct PoolWindow {
    int kernel_height, kernel_width, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x;
};

// Max pooling with one byte a window for its winner: its place in the window, y * kernel_width + x, so that a window
// holds at most 256 places, of which one at least lies inside. As in torch the first of equals wins, and a NaN always.
struct MaxPool {
    const void* in;  // [images, in_height, in_width, channels], contiguous
    Type type;
    int64_t images;
    int in_height, in_width;
    int64_t channels;
    PoolWindow window;
    void* out;  // [images, out_height, out_width, channels], contiguous
    int out_height, out_width;
    uint8_t* winner;  // like out
};

const char* max_pool_error(const MaxPool& call);
const char* max_pool(const MaxPool& call, void* stream);
const char* max_pool_emulated(const MaxPool& call);

// The transpose with the winners frozen: pulled maps `out` go to `in`, which is overwritten. Image i of the maps has
// the winners of image i % winners. Sums are float32.
struct MaxUnpool {
    const void* out;  // [images, out_height, out_width, channels], channels contiguous
    Type type;
    int64_t image_stride, line_stride, position_stride;  // of out, in elements
    const uint8_t* winner;                               // [winners, out_height, out_width, channels], contiguous
    int64_t winners;
    int64_t images;
    int out_height, out_width;
    int64_t channels;
    PoolWindow window;
    void* in;  // [images, in_height, in_width, channels], contiguous
    int in_height, in_width;
};

const char* max_unpool_error(const MaxUnpool& call);
const char* max_unpool(const MaxUnpool& call, void* stream);
const char* max_unpool_emulated(const MaxUnpool& call);

}  // namespace fwdkern::cuda
