#pragma once

#include "fwdkern/cuda/active_rows.h"
#include "gate_body.h"

namespace fwdkern::cuda {

// Up to 32 channels of a position of a packed gate.
FWDKERN_HD uint32_t gate_word(const uint8_t* bytes, int64_t count, int64_t word) {
    uint32_t bits = 0;
    FWDKERN_UNROLL
    for (int i = 0; i < 4; ++i)
        if (word * 4 + i < count) bits |= static_cast<uint32_t>(bytes[word * 4 + i]) << 8 * i;
    return bits;
}

// row_offset[p + 1]: the rows of the block's positions up to p; block_rows: all of the block's.
struct CountRowsBody {
    static constexpr int kThreads = kCountedPositions;

    struct Shared {
        int64_t sum[2][kThreads];
    };

    ActiveRows call;

    template <class Block>
    FWDKERN_HD void operator()(Block& block, Shared& shared) const {
        const int64_t first = block.x * kThreads;
        block.each([&](int thread) {
            const int64_t position = first + thread, bytes = (call.channels + 7) / 8;
            int64_t rows = 0;
            if (position < call.positions)
                for (int64_t word = 0; word < blocks_of(bytes, 4); ++word)
                    rows += count_bits(gate_word(call.bits + position * bytes, bytes, word));
            shared.sum[0][thread] = rows;
        });
        int now = 0;
        for (int distance = 1; distance < kThreads; distance *= 2, now = 1 - now)
            block.each([&](int thread) {
                const int64_t before = thread < distance ? 0 : shared.sum[now][thread - distance];
                shared.sum[1 - now][thread] = shared.sum[now][thread] + before;
            });
        block.each([&](int thread) {
            if (first + thread < call.positions) call.row_offset[first + thread + 1] = shared.sum[now][thread];
            if (thread == kThreads - 1) call.block_rows[block.x] = shared.sum[now][thread];
        });
    }
};

// Adds the rows of all blocks before: there are few blocks, so that each sums them up for itself.
struct SumRowsBody {
    static constexpr int kThreads = kCountedPositions;

    struct Shared {
        int64_t sum[kThreads];
    };

    ActiveRows call;

    template <class Block>
    FWDKERN_HD void operator()(Block& block, Shared& shared) const {
        block.each([&](int thread) {
            int64_t rows = 0;
            for (int64_t before = thread; before < block.x; before += kThreads) rows += call.block_rows[before];
            shared.sum[thread] = rows;
        });
        for (int half = kThreads / 2; half > 0; half /= 2)
            block.each([&](int thread) {
                if (thread < half) shared.sum[thread] += shared.sum[thread + half];
            });
        block.each([&](int thread) {
            const int64_t position = block.x * kThreads + thread;
            if (position == 0) call.row_offset[0] = 0;
            if (position < call.positions) call.row_offset[position + 1] += shared.sum[0];
        });
    }
};

// A warp writes the channels of a position, 32 at a time.
struct ListRowsBody {
    static constexpr int kThreads = 256;
    using Shared = Nothing;

    ActiveRows call;

    template <class Block>
    FWDKERN_HD void operator()(Block& block, Shared&) const {
        block.warps([&](auto warp) {
            const int64_t position = block.x * (kThreads / kLanes) + warp.index, bytes = (call.channels + 7) / 8;
            if (position >= call.positions) return;
            int64_t row = call.row_offset[position];
            for (int64_t word = 0; word < blocks_of(bytes, 4); ++word) {
                const uint32_t bits = gate_word(call.bits + position * bytes, bytes, word);
                warp.each([&](int lane) {
                    const uint32_t below = (1u << lane) - 1;
                    if (bits >> lane & 1)
                        call.row_channel[row + count_bits(bits & below)] = static_cast<int32_t>(word * kLanes + lane);
                });
                row += count_bits(bits);
            }
        });
    }
};

template <class Launch>
const char* launch_count_active_rows(const ActiveRows& call, Launch launch) {
    if (const char* error = count_active_rows_error(call)) return error;
    const GateBits gate = {call.gate, Type::boolean, 1, call.channels, call.positions, 0, call.channel_stride,
                           call.position_stride, call.bits};
    if (const char* error = launch_gate_bits_of<uint8_t>(gate, launch)) return error;
    // Without positions one block remains, which writes the first offset.
    const Grid blocks = {call.positions > 0 ? blocks_of(call.positions, kCountedPositions) : 1, 1};
    if (const char* error = launch(CountRowsBody{call}, blocks)) return error;
    return launch(SumRowsBody{call}, blocks);
}

template <class Launch>
const char* launch_list_active_rows(const ActiveRows& call, Launch launch) {
    if (const char* error = list_active_rows_error(call)) return error;
    if (call.channels == 0) return nullptr;
    return launch(ListRowsBody{call}, Grid{blocks_of(call.positions, ListRowsBody::kThreads / kLanes), 1});
}

}  // namespace fwdkern::cuda
