#pragma once

#include <cstdint>

namespace fwdkern::cuda {

// Positions whose rows one block counts.
constexpr int64_t kCountedPositions = 256;

// Row lists of a gate [channels, positions] of bools with any strides (in elements). Two calls, so that the caller can
// allocate row_channel between them, or give it room for all and never wait:
// count_active_rows packs the gate, counts and sums up; list_active_rows writes the channels.
struct ActiveRows {
    const uint8_t* gate;
    int64_t channels, positions;
    int64_t channel_stride, position_stride;
    uint8_t* bits;         // scratch [positions, (channels + 7) / 8]: the packed gate
    int64_t* block_rows;   // scratch [positions / kCountedPositions, rounded up]
    int64_t* row_offset;   // [positions + 1]
    int32_t* row_channel;  // at least row_offset[positions] entries; not read by count_active_rows
};

const char* count_active_rows_error(const ActiveRows& call);
const char* count_active_rows(const ActiveRows& call, void* stream);
const char* count_active_rows_emulated(const ActiveRows& call);

const char* list_active_rows_error(const ActiveRows& call);
const char* list_active_rows(const ActiveRows& call, void* stream);
const char* list_active_rows_emulated(const ActiveRows& call);

}  // namespace fwdkern::cuda
