#pragma once

#include "fwdkern/cuda/row_combine.h"
#include "map_tile.h"

namespace fwdkern::cuda {

template <class T, bool kAligned>
struct RowCombineBody {
    static constexpr int kThreads = kMapThreads;
    using Shared = Nothing;

    RowCombine call;
    MapTile tile;

    template <class Block>
    FWDKERN_HD void operator()(Block& block, Shared&) const {
        block.each([&](int thread) {
            const int64_t row = tile.row(block.x, thread);
            const auto at = tile.elements<kAligned>(block.y, thread);
            if (row >= tile.rows || at.first >= tile.slices) return;
            float total[kWide] = {};
            sum_rows<T>(call.in, call.index, call.coefficient, call.offset[row], call.offset[row + 1], at, tile.slices,
                        total);
            if (call.accumulate) {
                float before[kWide];
                load_row(call.out, row, at, tile.slices, before);
                FWDKERN_UNROLL
                for (int i = 0; i < kWide; ++i) total[i] += before[i];
            }
            store_row(call.out, row, at, tile.slices, total);
        });
    }
};

template <class Launch>
const char* launch_row_combine(const RowCombine& call, Launch launch) {
    if (const char* error = row_combine_error(call)) return error;
    const MapTile tile = map_tile(call.out.rows, call.slices);
    const bool aligned = is_aligned(call.in, call.slices) && is_aligned(call.out, call.slices);
    return with_type(call.in.type, [&](auto type) {
        return with_alignment(aligned, [&](auto is) {
            return launch(RowCombineBody<decltype(type), decltype(is)::value>{call, tile}, tile.grid());
        });
    });
}

}  // namespace fwdkern::cuda
