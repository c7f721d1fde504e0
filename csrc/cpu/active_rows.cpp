#include "fwdkern/active_rows.h"

#include <algorithm>

namespace fwdkern {

namespace {

// A block of positions keeps its counters on the stack and its part of the gate in L1 for either memory order.
constexpr int64_t kBlock = 64;

}  // namespace

int64_t count_active_rows(const uint8_t* gate, int64_t channels, int64_t positions, int64_t channel_stride,
                          int64_t position_stride, int64_t* row_offset) {
    int64_t rows = 0;
    row_offset[0] = 0;
    for (int64_t begin = 0; begin < positions; begin += kBlock) {
        const int64_t size = std::min(kBlock, positions - begin);
        int64_t count[kBlock] = {};
        for (int64_t c = 0; c < channels; ++c) {
            const uint8_t* line = gate + c * channel_stride + begin * position_stride;
            for (int64_t i = 0; i < size; ++i) count[i] += line[i * position_stride] != 0;
        }
        for (int64_t i = 0; i < size; ++i) {
            rows += count[i];
            row_offset[begin + i + 1] = rows;
        }
    }
    return rows;
}

void list_active_rows(const uint8_t* gate, int64_t channels, int64_t positions, int64_t channel_stride,
                      int64_t position_stride, const int64_t* row_offset, int32_t* row_channel) {
    for (int64_t begin = 0; begin < positions; begin += kBlock) {
        const int64_t size = std::min(kBlock, positions - begin);
        int64_t next[kBlock];
        std::copy(row_offset + begin, row_offset + begin + size, next);
        for (int64_t c = 0; c < channels; ++c) {
            const uint8_t* line = gate + c * channel_stride + begin * position_stride;
            for (int64_t i = 0; i < size; ++i)
                if (line[i * position_stride] != 0) row_channel[next[i]++] = static_cast<int32_t>(c);
        }
    }
}

}  // namespace fwdkern
