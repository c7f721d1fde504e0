#pragma once

#include <cstdint>

#include "map_tile.h"

namespace fwdkern::cuda {

// Threads over tensors [images, height, width, channels]: one has kWide neighbouring channels of a position, fewer at
// the end of the channels.
struct ChannelTile {
    int64_t images;
    int height, width;
    int64_t channels;

    struct Place {
        int64_t image;
        int y, x;
        int64_t channel;
    };

    FWDKERN_HD int64_t groups() const { return blocks_of(channels, kWide); }
    FWDKERN_HD int64_t count() const { return images * height * width * groups(); }

    FWDKERN_HD Place place(int64_t thread) const {
        // Divisions of 64-bit numbers take dozens of instructions.
        return count() <= 0xffffffff ? place_in<uint32_t>(thread) : place_in<int64_t>(thread);
    }

    template <class Number>
    FWDKERN_HD Place place_in(int64_t thread) const {
        const Number share = static_cast<Number>(groups()), line = static_cast<Number>(width);
        const Number position = static_cast<Number>(thread) / share, lines = position / line;
        return {lines / static_cast<Number>(height), static_cast<int>(lines % static_cast<Number>(height)),
                static_cast<int>(position % line), static_cast<Number>(thread) % share * kWide};
    }

    // Its element of a contiguous tensor.
    FWDKERN_HD int64_t element(const Place& at) const {
        return ((at.image * height + at.y) * width + at.x) * channels + at.channel;
    }
};

inline int64_t address_of(const void* pointer) { return static_cast<int64_t>(reinterpret_cast<uintptr_t>(pointer)); }

}  // namespace fwdkern::cuda
