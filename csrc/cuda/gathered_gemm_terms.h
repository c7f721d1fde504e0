#pragma once

#include "block.h"
#include "gathered_gemm_geometry.h"

namespace fwdkern::cuda {

// A block lists the terms of one segment: the rows of its taps one after the other.
struct ListTerms {
    static constexpr int kThreads = 256;
    static constexpr int kTaps = 32;  // taken together

    struct Shared {
        int64_t first[kTaps], length[kTaps];
        int64_t place[kTaps + 1];  // of each tap's rows among those of the taps taken together
    };

    RowList in_rows;
    const int32_t* in_index;
    const int32_t* taps;  // [positions, tap_count]
    int64_t tap_count, groups, in_channels;
    int64_t map_bytes, weight_bytes;  // from one row to the next
    int64_t capacity;
    Term* terms;     // [segments, capacity], out
    int32_t* count;  // [segments], out

    template <class Block>
    FWDKERN_HD void operator()(Block& block, Shared& shared) const {
        const int64_t segment = block.x, position = segment / groups, group = segment % groups;
        const int64_t width = in_channels / groups;
        Term* list = terms + segment * capacity;
        int64_t total = 0;
        for (int64_t tap0 = 0; tap0 < tap_count; tap0 += kTaps) {
            block.each([&](int thread) {
                if (thread >= kTaps) return;
                const int64_t tap = tap0 + thread;
                const int64_t source = tap < tap_count ? taps[position * tap_count + tap] : -1;
                const Span rows = source < 0 ? Span{0, 0} : rows_of(in_rows, source, group, groups, width);
                shared.first[thread] = rows.begin;
                shared.length[thread] = rows.end - rows.begin;
            });
            block.each([&](int thread) {
                if (thread > kTaps) return;
                int64_t before = 0;
                for (int tap = 0; tap < thread; ++tap) before += shared.length[tap];
                shared.place[thread] = before;
            });
            block.each([&](int thread) {
                for (int64_t i = thread; i < shared.place[kTaps]; i += kThreads) {
                    const int tap = tap_of(shared.place, i);
                    const int64_t row = shared.first[tap] + i - shared.place[tap];
                    const int64_t weights = (tap0 + tap) * in_channels + in_rows.channel[row];
                    list[total + i] = {(in_index ? in_index[row] : row) * map_bytes, weights * weight_bytes};
                }
            });
            total += shared.place[kTaps];
        }
        block.each([&](int thread) {
            if (thread == 0) count[segment] = static_cast<int32_t>(total);
        });
    }

    // The tap that holds row i: the last whose place is not beyond it.
    FWDKERN_HD static int tap_of(const int64_t (&place)[kTaps + 1], int64_t i) {
        int low = 0, high = kTaps;
        while (high - low > 1) {
            const int middle = (low + high) / 2;
            (place[middle] <= i ? low : high) = middle;
        }
        return low;
    }
};

}  // namespace fwdkern::cuda
