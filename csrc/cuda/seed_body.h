#pragma once

#include "fwdkern/cuda/seed.h"
#include "map_tile.h"

namespace fwdkern::cuda {

// Every element is written once; no separate pass of zeros.
template <bool kAligned>
struct SeedBody {
    static constexpr int kThreads = kMapThreads;
    using Shared = Nothing;

    Seed call;
    MapTile tile;

    template <class Block>
    FWDKERN_HD void operator()(Block& block, Shared&) const {
        block.each([&](int thread) {
            const int64_t row = tile.row(block.x, thread);
            const auto at = tile.elements<kAligned>(block.y, thread);
            if (row >= tile.rows || at.first >= tile.slices) return;
            const int64_t own = call.column[row];
            const float x = call.value[row];
            float value[kWide];
            FWDKERN_UNROLL
            for (int i = 0; i < kWide; ++i) value[i] = at[i] == own ? x : 0.0f;
            store_row(call.out, row, at, tile.slices, value);
        });
    }
};

template <class Launch>
const char* launch_seed(const Seed& call, Launch launch) {
    if (const char* error = seed_error(call)) return error;
    const MapTile tile = map_tile(call.out.rows, call.slices);
    return with_alignment(is_aligned(call.out, call.slices), [&](auto is) {
        return launch(SeedBody<decltype(is)::value>{call, tile}, tile.grid());
    });
}

}  // namespace fwdkern::cuda
