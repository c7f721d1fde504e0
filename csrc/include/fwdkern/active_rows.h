#pragma once

#include <cstdint>

namespace fwdkern {

// Row lists of a gate [channels, positions] (0 is inactive) with any strides (in elements):
// row_offset [positions + 1], row_channel [rows], rows grouped by position, channels ascending.
// Two passes, so that the caller can allocate row_channel between them.

// Fills row_offset and returns the number of rows.
int64_t count_active_rows(const uint8_t* gate, int64_t channels, int64_t positions, int64_t channel_stride,
                          int64_t position_stride, int64_t* row_offset);

// Fills row_channel from a row_offset that count_active_rows made of the same gate.
void list_active_rows(const uint8_t* gate, int64_t channels, int64_t positions, int64_t channel_stride,
                      int64_t position_stride, const int64_t* row_offset, int32_t* row_channel);

// For the rows of a list: unit [rows], channel * positions + position of each; row [channels * positions], which must
// hold -1, gets the number of each unit's row.
void number_rows(const int64_t* row_offset, const int32_t* row_channel, int64_t positions, int64_t* unit, int64_t* row);

}  // namespace fwdkern
