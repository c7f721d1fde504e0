#pragma once

#include <type_traits>

#include "channels.h"
#include "fwdkern/cuda/gate.h"

namespace fwdkern::cuda {

FWDKERN_HD bool is_open(uint8_t value) { return value != 0; }

template <class T>
FWDKERN_HD bool is_open(T value) {
    return widen(value) > 0.0f;
}

// Warps pack 32 positions x 32 channels each: those of one image, channels fastest, so that the warps of a block write
// side by side.
struct GateTile {
    int64_t images, positions, channels;

    struct Place {
        int64_t image, position, channel;
    };

    FWDKERN_HD int64_t words() const { return blocks_of(channels, kLanes); }
    FWDKERN_HD int64_t spans() const { return blocks_of(positions, kLanes); }
    FWDKERN_HD int64_t count() const { return images * spans() * words(); }

    FWDKERN_HD Place place(int64_t tile) const {
        return {tile / words() / spans(), tile / words() % spans() * kLanes, tile % words() * kLanes};
    }
};

template <class T>
struct GateBitsBody {
    static constexpr int kThreads = 256;
    using Shared = Nothing;

    GateBits call;
    GateTile tile;

    FWDKERN_HD int64_t blocks() const { return blocks_of(tile.count(), kThreads / kLanes); }

    template <class Block>
    FWDKERN_HD void operator()(Block& block, Shared&) const {
        block.warps([&](auto warp) {
            const int64_t number = block.x * (kThreads / kLanes) + warp.index;
            if (number >= tile.count()) return;
            const GateTile::Place at = tile.place(number);
            const T* values = static_cast<const T*>(call.values) + at.image * call.image_stride;
            auto word = warp.template per_lane<uint32_t>();
            warp.each([&](int lane) { word[lane] = 0; });
            if (call.channel_stride == 1) {
                // A lane reads one channel of all 32 positions: a ballot is a position's word.
                FWDKERN_UNROLL
                for (int p = 0; p < kLanes; ++p) {
                    const uint32_t bits = warp.ballot([&](int lane) {
                        return at.channel + lane < tile.channels && at.position + p < tile.positions &&
                               is_open(values[at.channel + lane + (at.position + p) * call.position_stride]);
                    });
                    warp.each([&](int lane) {
                        if (lane == p) word[lane] = bits;
                    });
                }
            } else {
                // A lane reads all 32 channels of one position.
                warp.each([&](int lane) {
                    const T* value = values + at.channel * call.channel_stride +
                                     (at.position + lane) * call.position_stride;
                    const int64_t left = at.position + lane < tile.positions ? tile.channels - at.channel : 0;
                    FWDKERN_UNROLL
                    for (int c = 0; c < kLanes; ++c, value += call.channel_stride)
                        word[lane] |= static_cast<uint32_t>(c < left && is_open(*value)) << c;
                });
            }
            warp.each([&](int lane) {
                const int64_t position = at.position + lane;
                if (position >= tile.positions) return;
                const int64_t bytes = (tile.channels + 7) / 8;
                uint8_t* to = call.bits + (at.image * tile.positions + position) * bytes + at.channel / 8;
                for (int i = 0; i < 4 && at.channel / 8 + i < bytes; ++i)
                    to[i] = static_cast<uint8_t>(word[lane] >> 8 * i);
            });
        });
    }
};

template <class T, class Launch>
const char* launch_gate_bits_of(const GateBits& call, Launch launch) {
    const GateBitsBody<T> body = {call, {call.images, call.positions, call.channels}};
    return launch(body, Grid{body.blocks(), 1});
}

template <class Launch>
const char* launch_gate_bits(const GateBits& call, Launch launch) {
    if (const char* error = gate_bits_error(call)) return error;
    if (call.type == Type::boolean) return launch_gate_bits_of<uint8_t>(call, launch);
    return with_type(call.type, [&](auto type) { return launch_gate_bits_of<decltype(type)>(call, launch); });
}

// Gates copy bits: Word is an unsigned number as wide as an element.
template <class Word, bool kAligned>
struct GateMapsBody {
    static constexpr int kThreads = 256;
    using Shared = Nothing;

    GateMaps call;
    ChannelTile tile;

    template <class Block>
    FWDKERN_HD void operator()(Block& block, Shared&) const {
        block.each([&](int thread) {
            const int64_t number = block.x * kThreads + thread;
            if (number >= tile.count()) return;
            const ChannelTile::Place at = tile.place(number);
            const int64_t gate = (at.image % call.gates * tile.height + at.y) * tile.width + at.x;
            const uint8_t bits = call.bits[gate * tile.groups() + at.channel / kWide];
            const Word* from = static_cast<const Word*>(call.in) + at.image * call.image_stride +
                               at.y * call.line_stride + at.x * call.position_stride + at.channel;
            Word* to = static_cast<Word*>(call.out) + tile.element(at);
            if constexpr (kAligned) {
                FWDKERN_UNROLL
                for (unsigned part = 0; part < kWide * sizeof(Word) / 16; ++part) {
                    union {
                        Bits128 all;
                        Word word[16 / sizeof(Word)];
                    } value;
                    // What the gate closes off is not even read where it closes all eight.
                    value.all = bits ? load_16(from, part) : Bits128{};
                    FWDKERN_UNROLL
                    for (unsigned i = 0; i < 16 / sizeof(Word); ++i)
                        if (!(bits >> (part * (16 / sizeof(Word)) + i) & 1)) value.word[i] = 0;
                    store_16(to, part, value.all);
                }
            } else {
                FWDKERN_UNROLL
                for (int i = 0; i < kWide; ++i)
                    if (at.channel + i < tile.channels) to[i] = bits >> i & 1 ? from[i] : Word{};
            }
        });
    }
};

template <class Launch>
const char* launch_gate_maps(const GateMaps& call, Launch launch) {
    if (const char* error = gate_maps_error(call)) return error;
    const ChannelTile tile = {call.images, call.height, call.width, call.channels};
    const int64_t bytes = bytes_of(call.type);
    const bool aligned = call.channels % kWide == 0 &&
                         (address_of(call.in) | address_of(call.out) | call.image_stride * bytes |
                          call.line_stride * bytes | call.position_stride * bytes) % 16 == 0;
    const auto gated = [&](auto word) {
        return with_alignment(aligned, [&](auto is) {
            using Body = GateMapsBody<decltype(word), decltype(is)::value>;
            return launch(Body{call, tile}, Grid{blocks_of(tile.count(), Body::kThreads), 1});
        });
    };
    return bytes == 4 ? gated(uint32_t()) : gated(uint16_t());
}

}  // namespace fwdkern::cuda
