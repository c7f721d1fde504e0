#pragma once

#include <cstdint>

namespace fwdkern {

// The rows of a list (offset [height * width + 1], channel) at the positions y0 <= y < y1, x0 <= x < x1 of its grid,
// renumbered from 0 in the same order.
struct Rectangle {
    int64_t y0, y1, x0, x1;
};

int64_t count_window_rows(const int64_t* offset, int64_t width, const Rectangle& inside);

// rows [n]: numbers in the whole list; window_offset [positions inside + 1]; window_channel [n].
void list_window_rows(const int64_t* offset, const int32_t* channel, int64_t width, const Rectangle& inside,
                      int64_t* rows, int64_t* window_offset, int32_t* window_channel);

// The terms of some rows of a combination (offset, index, coefficient) whose index has a local number: local [index]
// is that number, or -1. Writes window_offset [rows + 1] and returns the number of terms that stay.
int64_t count_window_terms(const int64_t* offset, const int32_t* index, const int64_t* rows, int64_t row_count,
                           const int32_t* local, int64_t* window_offset);

void list_window_terms(const int64_t* offset, const int32_t* index, const float* coefficient, const int64_t* rows,
                       int64_t row_count, const int32_t* local, int32_t* window_index, float* window_coefficient);

// Copies the maps of rows, [row_count, tile height * tile width] of row stride `stride`, into result windows
// [units, window height * window width] whose corner in the image is origin [units, 2] (y, x). target [row_count] is
// each row's unit, -1 for none. Pixels of the tile outside a unit's window are left out.
void scatter_windows(const float* maps, int64_t stride, const int64_t* target, int64_t row_count,
                     const Rectangle& tile, const int64_t* origin, int64_t window_height, int64_t window_width,
                     float* result, int threads);

}  // namespace fwdkern
