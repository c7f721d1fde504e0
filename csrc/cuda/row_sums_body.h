#pragma once

#include "fwdkern/cuda/row_sums.h"
#include "map_tile.h"

namespace fwdkern::cuda {

// Blocks of rows by parts of rows: a thread has kTurns times kWide elements of a part. Short rows share a block.
struct RowSumTile {
    static constexpr int kTurns = 4;

    MapTile turn;  // of one turn
    int64_t parts;

    Grid grid() const { return {blocks_of(turn.rows, turn.rows_of_block()), parts}; }
};

inline RowSumTile row_sum_tile(int64_t rows, int64_t columns) {
    const MapTile turn = map_tile(rows, columns);
    return {turn, blocks_of(columns, turn.slices_of_block() * RowSumTile::kTurns)};
}

template <bool kAligned>
struct RowSumsBody {
    static constexpr int kThreads = kMapThreads;

    struct Shared {
        float sum[kThreads], magnitude[kThreads];
    };

    RowSums call;
    RowSumTile tile;

    template <class Block>
    FWDKERN_HD void operator()(Block& block, Shared& shared) const {
        const int across = tile.turn.across;
        block.each([&](int thread) {
            const int64_t row = tile.turn.row(block.x, thread);
            float sum = 0, magnitude = 0;
            if (row < tile.turn.rows) {
                FWDKERN_LOOP
                for (int i = 0; i < RowSumTile::kTurns; ++i)
                    add_turn(row, tile.turn.template elements<kAligned>(block.y * RowSumTile::kTurns + i, thread), sum,
                             magnitude);
            }
            shared.sum[thread] = sum;
            shared.magnitude[thread] = magnitude;
        });
        for (int half = across / 2; half > 0; half /= 2)
            block.each([&](int thread) {
                if (thread % across >= half) return;
                shared.sum[thread] += shared.sum[thread + half];
                shared.magnitude[thread] += shared.magnitude[thread + half];
            });
        block.each([&](int thread) {
            const int64_t row = tile.turn.row(block.x, thread);
            if (thread % across != 0 || row >= tile.turn.rows) return;
            call.sum[row * tile.parts + block.y] = shared.sum[thread];
            call.magnitude[row * tile.parts + block.y] = shared.magnitude[thread];
        });
    }

    FWDKERN_HD void add_turn(int64_t row, Elements<kAligned> at, float& sum, float& magnitude) const {
        if (at.first >= call.columns) return;
        // Counted from the first element, in few registers.
        float* elements = static_cast<float*>(call.maps.data) + row * call.maps.stride + at.first;
        const int step = static_cast<int>(at.step), most = kWide * step;
        const int end = call.columns - at.first < most ? static_cast<int>(call.columns - at.first) : most;
        float value[kWide];
        if constexpr (kAligned) {
            load_wide(elements, Elements<true>{0, 1}, end, value);
        } else {
            FWDKERN_UNROLL
            for (int i = 0; i < kWide; ++i) value[i] = i * step < end ? elements[i * step] : 0.0f;
        }
        if (call.addend != nullptr) {
            const float addend = call.addend[row];
            FWDKERN_UNROLL
            for (int i = 0; i < kWide; ++i) value[i] += addend;
            if constexpr (kAligned) {
                store_wide(elements, Elements<true>{0, 1}, end, value);
            } else {
                FWDKERN_UNROLL
                for (int i = 0; i < kWide; ++i)
                    if (i * step < end) elements[i * step] = value[i];
            }
        }
        FWDKERN_UNROLL
        for (int i = 0; i < kWide; ++i) {
            if (!kAligned && i * step >= end) continue;
            sum += value[i];
            magnitude += value[i] < 0 ? -value[i] : value[i];
        }
    }
};

template <class Launch>
const char* launch_row_sums(const RowSums& call, Launch launch) {
    if (const char* error = row_sums_error(call)) return error;
    const RowSumTile tile = row_sum_tile(call.maps.rows, call.columns);
    return with_alignment(is_aligned(call.maps, call.columns), [&](auto is) {
        return launch(RowSumsBody<decltype(is)::value>{call, tile}, tile.grid());
    });
}

}  // namespace fwdkern::cuda
