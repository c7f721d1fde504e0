#include "fwdkern/active_rows.h"

#include <algorithm>
#include <cstring>

namespace fwdkern {

namespace {

// A block of positions keeps its counters on the stack and its part of the gate in L1 for either memory order.
constexpr int64_t kBlock = 64;

template <bool Contiguous>
void count_block(const uint8_t* gate, int64_t channels, int64_t size, int64_t channel_stride,
                 int64_t position_stride, int32_t* count) {
    for (int64_t c = 0; c < channels; ++c)
        for (int64_t i = 0; i < size; ++i) count[i] += gate[c * channel_stride + i * (Contiguous ? 1 : position_stride)] != 0;
}

// Bit i tells whether line[i * stride] is not 0.
uint64_t mask_of(const uint8_t* line, int64_t size, int64_t stride) {
    uint64_t mask = 0;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (stride == 1 && size == kBlock) {
        for (int b = 0; b < 8; ++b) {
            uint64_t eight;
            std::memcpy(&eight, line + 8 * b, sizeof eight);
            constexpr uint64_t kLow7 = 0x7f7f7f7f7f7f7f7fu;
            eight = (((eight & kLow7) + kLow7) | eight) >> 7 & 0x0101010101010101u;
            // Moves the lowest bit of byte j to bit 56 + j.
            mask |= eight * 0x0102040810204080u >> 56 << 8 * b;
        }
        return mask;
    }
#endif
    for (int64_t i = 0; i < size; ++i) mask |= static_cast<uint64_t>(line[i * stride] != 0) << i;
    return mask;
}

}  // namespace

int64_t count_active_rows(const uint8_t* gate, int64_t channels, int64_t positions, int64_t channel_stride,
                          int64_t position_stride, int64_t* row_offset) {
    int64_t rows = 0;
    row_offset[0] = 0;
    for (int64_t begin = 0; begin < positions; begin += kBlock) {
        const int64_t size = std::min(kBlock, positions - begin);
        int32_t count[kBlock] = {};
        const auto count_rows = position_stride == 1 ? count_block<true> : count_block<false>;
        count_rows(gate + begin * position_stride, channels, size, channel_stride, position_stride, count);
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
            uint64_t mask = mask_of(gate + c * channel_stride + begin * position_stride, size, position_stride);
            for (; mask; mask &= mask - 1) row_channel[next[__builtin_ctzll(mask)]++] = static_cast<int32_t>(c);
        }
    }
}

void number_rows(const int64_t* row_offset, const int32_t* row_channel, int64_t positions, int64_t* unit,
                 int64_t* row) {
    for (int64_t p = 0; p < positions; ++p)
        for (int64_t r = row_offset[p]; r < row_offset[p + 1]; ++r) {
            unit[r] = row_channel[r] * positions + p;
            row[unit[r]] = r;
        }
}

}  // namespace fwdkern
