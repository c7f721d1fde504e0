#pragma once

#include "channels.h"
#include "fwdkern/cuda/max_pool.h"

namespace fwdkern::cuda {

// Along one axis: where place i of window `out` lies, and which window has `in` as its place i, -1 for none.
FWDKERN_HD int place_of(int out, int i, int stride, int padding, int dilation, int size) {
    const int in = out * stride - padding + i * dilation;
    return in >= 0 && in < size ? in : -1;
}

FWDKERN_HD int window_of(int in, int i, int stride, int padding, int dilation, int size) {
    const int begin = in + padding - i * dilation;
    return begin >= 0 && begin % stride == 0 && begin / stride < size ? begin / stride : -1;
}

template <class T, bool kAligned>
struct MaxPoolBody {
    static constexpr int kThreads = 256;
    using Shared = Nothing;

    MaxPool call;
    ChannelTile tile;  // of out

    template <class Block>
    FWDKERN_HD void operator()(Block& block, Shared&) const {
        block.each([&](int thread) {
            const int64_t number = block.x * kThreads + thread;
            if (number >= tile.count()) return;
            const ChannelTile::Place at = tile.place(number);
            const Elements<kAligned> channels = {at.channel, 1};
            const PoolWindow& w = call.window;
            const ChannelTile in = {call.images, call.in_height, call.in_width, call.channels};
            float best[kWide] = {};
            int winner[kWide];
            FWDKERN_UNROLL
            for (int k = 0; k < kWide; ++k) winner[k] = -1;
            for (int i = 0; i < w.kernel_height; ++i) {
                const int y = place_of(at.y, i, w.stride_y, w.padding_y, w.dilation_y, call.in_height);
                for (int j = 0; j < w.kernel_width && y >= 0; ++j) {
                    const int x = place_of(at.x, j, w.stride_x, w.padding_x, w.dilation_x, call.in_width);
                    if (x < 0) continue;
                    float value[kWide];
                    load_wide(static_cast<const T*>(call.in) + in.element({at.image, y, x, 0}), channels,
                              call.channels, value);
                    FWDKERN_UNROLL
                    for (int k = 0; k < kWide; ++k)
                        if (winner[k] < 0 || value[k] > best[k] || value[k] != value[k]) {
                            best[k] = value[k];
                            winner[k] = i * w.kernel_width + j;
                        }
                }
            }
            const int64_t to = tile.element({at.image, at.y, at.x, 0});
            store_wide(static_cast<T*>(call.out) + to, channels, call.channels, best);
            FWDKERN_UNROLL
            for (int k = 0; k < kWide; ++k)
                if (channels[k] < call.channels) call.winner[to + channels[k]] = static_cast<uint8_t>(winner[k]);
        });
    }
};

template <class Launch>
const char* launch_max_pool(const MaxPool& call, Launch launch) {
    if (const char* error = max_pool_error(call)) return error;
    const ChannelTile tile = {call.images, call.out_height, call.out_width, call.channels};
    const bool aligned = call.channels % kWide == 0 && (address_of(call.in) | address_of(call.out)) % 16 == 0;
    return with_type(call.type, [&](auto type) {
        return with_alignment(aligned, [&](auto is) {
            using Body = MaxPoolBody<decltype(type), decltype(is)::value>;
            return launch(Body{call, tile}, Grid{blocks_of(tile.count(), Body::kThreads), 1});
        });
    });
}

// Gathers: every entry of `in` asks the windows that it lies in. No atomics, so the same bits at every run.
template <class T, bool kAligned>
struct MaxUnpoolBody {
    static constexpr int kThreads = 256;
    using Shared = Nothing;

    MaxUnpool call;
    ChannelTile tile;  // of in

    template <class Block>
    FWDKERN_HD void operator()(Block& block, Shared&) const {
        block.each([&](int thread) {
            const int64_t number = block.x * kThreads + thread;
            if (number >= tile.count()) return;
            const ChannelTile::Place at = tile.place(number);
            const Elements<kAligned> channels = {at.channel, 1};
            const PoolWindow& w = call.window;
            const ChannelTile winners = {call.winners, call.out_height, call.out_width, call.channels};
            const T* maps = static_cast<const T*>(call.out) + at.image * call.image_stride;
            float total[kWide] = {};
            for (int i = 0; i < w.kernel_height; ++i) {
                const int y = window_of(at.y, i, w.stride_y, w.padding_y, w.dilation_y, call.out_height);
                for (int j = 0; j < w.kernel_width && y >= 0; ++j) {
                    const int x = window_of(at.x, j, w.stride_x, w.padding_x, w.dilation_x, call.out_width);
                    if (x < 0) continue;
                    float value[kWide];
                    load_wide(maps + y * call.line_stride + x * call.position_stride, channels, call.channels, value);
                    const uint8_t* winner = call.winner + winners.element({at.image % call.winners, y, x, 0});
                    FWDKERN_UNROLL
                    for (int k = 0; k < kWide; ++k)
                        if (channels[k] < call.channels && winner[channels[k]] == i * w.kernel_width + j)
                            total[k] += value[k];
                }
            }
            store_wide(static_cast<T*>(call.in) + tile.element({at.image, at.y, at.x, 0}), channels, call.channels,
                       total);
        });
    }
};

template <class Launch>
const char* launch_max_unpool(const MaxUnpool& call, Launch launch) {
    if (const char* error = max_unpool_error(call)) return error;
    const ChannelTile tile = {call.images, call.in_height, call.in_width, call.channels};
    const int64_t bytes = bytes_of(call.type);
    const bool aligned = call.channels % kWide == 0 &&
                         (address_of(call.in) | address_of(call.out) | call.image_stride * bytes |
                          call.line_stride * bytes | call.position_stride * bytes) % 16 == 0;
    return with_type(call.type, [&](auto type) {
        return with_alignment(aligned, [&](auto is) {
            using Body = MaxUnpoolBody<decltype(type), decltype(is)::value>;
            return launch(Body{call, tile}, Grid{blocks_of(tile.count(), Body::kThreads), 1});
        });
    });
}

}  // namespace fwdkern::cuda
