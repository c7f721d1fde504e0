#pragma once

#include "fwdkern/cuda/row_combine.h"
#include "map_tile.h"

namespace fwdkern::cuda {

// Bound by memory: kTerms rows are under way in every thread.
template <class T>
struct RowCombineBody {
    static constexpr int kThreads = kMapThreads;
    static constexpr int kTerms = sizeof(T) == 4 ? 2 : 4;
    using Shared = Nothing;

    RowCombine call;
    MapTile tile;

    template <class Block>
    FWDKERN_HD void operator()(Block& block, Shared&) const {
        block.each([&](int thread) {
            const int64_t row = tile.row(block.x, thread);
            const Elements at = tile.elements(block.y, thread);
            if (row >= tile.rows || at.first >= tile.slices) return;
            float total[kWide] = {};
            const int64_t end = call.offset[row + 1];
            int64_t j = call.offset[row];
            for (; j + kTerms <= end; j += kTerms) add<kTerms>(j, at, total);
            for (; j < end; ++j) add<1>(j, at, total);
            if (call.accumulate) {
                float before[kWide];
                load_row(call.out, row, at, tile.slices, before);
                FWDKERN_UNROLL
                for (int i = 0; i < kWide; ++i) total[i] += before[i];
            }
            store_row(call.out, row, at, tile.slices, total);
        });
    }

    template <int count>
    FWDKERN_HD void add(int64_t j, Elements at, float (&total)[kWide]) const {
        float value[count][kWide], factor[count];
        FWDKERN_UNROLL
        for (int k = 0; k < count; ++k) {
            const T* row = static_cast<const T*>(call.in.data) + call.index[j + k] * call.in.stride;
            factor[k] = call.coefficient[j + k];
            load_wide(row, at, tile.slices, value[k]);
        }
        FWDKERN_UNROLL
        for (int k = 0; k < count; ++k)
            FWDKERN_UNROLL
            for (int i = 0; i < kWide; ++i) total[i] += factor[k] * value[k][i];
    }
};

template <class Launch>
const char* launch_row_combine(const RowCombine& call, Launch launch) {
    if (const char* error = row_combine_error(call)) return error;
    const MapTile tile = map_tile(call.out.rows, call.slices, is_aligned(call.in) && is_aligned(call.out));
    return with_type(call.in.type,
                     [&](auto type) { return launch(RowCombineBody<decltype(type)>{call, tile}, tile.grid()); });
}

}  // namespace fwdkern::cuda
