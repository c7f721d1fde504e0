#include "fwdkern/max_pool.h"

#include <algorithm>

#include "fwdkern/parallel.h"
#include "kernels_of.h"

namespace fwdkern {

namespace {

// Values read that outweigh waking a thread.
constexpr int64_t kWorkPerThread = 1 << 16;
constexpr int64_t kPlaces = 256;

int threads_for(int64_t work, int threads) {
    return static_cast<int>(std::clamp<int64_t>(work / kWorkPerThread, 1, std::max(threads, 1)));
}

}  // namespace

void max_pool(const MaxPool& call, Isa isa, int threads) {
    const PoolKernels& kernels = pool_kernels_of(isa);
    const int64_t c = call.channels;
    threads = threads_for(call.images * call.out_height * call.out_width * c * call.kernel_height * call.kernel_width, threads);
    parallel_for(threads, call.images * call.out_height, [&](int, int64_t begin, int64_t end) {
        const float* from[kPlaces];
        uint8_t place[kPlaces];
        for (int64_t item = begin; item < end; ++item) {
            const float* image = call.in + item / call.out_height * call.in_height * call.in_width * c;
            const int64_t top = item % call.out_height * call.stride_y - call.padding_y;
            for (int64_t x = 0; x < call.out_width; ++x) {
                const int64_t left = x * call.stride_x - call.padding_x;
                int64_t count = 0;
                for (int64_t i = 0; i < call.kernel_height; ++i)
                    for (int64_t j = 0; j < call.kernel_width; ++j) {
                        const int64_t y = top + i * call.dilation_y, at = left + j * call.dilation_x;
                        if (y < 0 || y >= call.in_height || at < 0 || at >= call.in_width) continue;
                        from[count] = image + (y * call.in_width + at) * c;
                        place[count++] = static_cast<uint8_t>(i * call.kernel_width + j);
                    }
                const int64_t out = (item * call.out_width + x) * c;
                kernels.largest(from, place, count, c, call.out + out, call.winner + out);
            }
        }
    });
}

void max_unpool_line(const MaxUnpool& call, Isa isa, int64_t image, int64_t y, float* line) {
    const PoolKernels& kernels = pool_kernels_of(isa);
    const int64_t c = call.channels;
    const float* maps = call.out + image * call.image_stride;
    const uint8_t* winners = call.winner + image % call.winners * call.out_height * call.out_width * c;
    const float* from[kPlaces];
    const uint8_t* winner[kPlaces];
    uint8_t place[kPlaces];
    for (int64_t x = 0; x < call.in_width; ++x) {
        int64_t count = 0;
        for (int64_t i = 0; i < call.kernel_height; ++i) {
            const int64_t down = y + call.padding_y - i * call.dilation_y, row = down / call.stride_y;
            if (down < 0 || down % call.stride_y != 0 || row >= call.out_height) continue;
            for (int64_t j = 0; j < call.kernel_width; ++j) {
                const int64_t right = x + call.padding_x - j * call.dilation_x, column = right / call.stride_x;
                if (right < 0 || right % call.stride_x != 0 || column >= call.out_width) continue;
                from[count] = maps + row * call.line_stride + column * call.position_stride;
                winner[count] = winners + (row * call.out_width + column) * c;
                place[count++] = static_cast<uint8_t>(i * call.kernel_width + j);
            }
        }
        kernels.pulled(from, winner, place, count, c, line + x * c);
    }
}

void max_unpool(const MaxUnpool& call, Isa isa, int threads) {
    threads = threads_for(call.images * call.in_height * call.in_width * call.channels, threads);
    parallel_for(threads, call.images * call.in_height, [&](int, int64_t begin, int64_t end) {
        for (int64_t item = begin; item < end; ++item)
            max_unpool_line(call, isa, item / call.in_height, item % call.in_height,
                            call.in + item * call.in_width * call.channels);
    });
}

}  // namespace fwdkern
