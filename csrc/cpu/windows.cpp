#include "fwdkern/windows.h"

#include <algorithm>
#include <cstring>

#include "fwdkern/parallel.h"

namespace fwdkern {

int64_t count_window_rows(const int64_t* offset, int64_t width, const Rectangle& inside) {
    int64_t rows = 0;
    for (int64_t y = inside.y0; y < inside.y1; ++y) rows += offset[y * width + inside.x1] - offset[y * width + inside.x0];
    return rows;
}

void list_window_rows(const int64_t* offset, const int32_t* channel, int64_t width, const Rectangle& inside,
                      int64_t* rows, int64_t* window_offset, int32_t* window_channel) {
    int64_t written = 0, position = 0;
    window_offset[0] = 0;
    for (int64_t y = inside.y0; y < inside.y1; ++y) {
        const int64_t* line = offset + y * width;
        const int64_t first = line[inside.x0], count = line[inside.x1] - first;
        for (int64_t x = inside.x0; x < inside.x1; ++x) window_offset[++position] = written + line[x + 1] - first;
        for (int64_t i = 0; i < count; ++i) rows[written + i] = first + i;
        std::copy(channel + first, channel + first + count, window_channel + written);
        written += count;
    }
}

int64_t count_window_terms(const int64_t* offset, const int32_t* index, const int64_t* rows, int64_t row_count,
                           const int32_t* local, int64_t* window_offset) {
    int64_t terms = 0;
    window_offset[0] = 0;
    for (int64_t r = 0; r < row_count; ++r) {
        for (int64_t j = offset[rows[r]]; j < offset[rows[r] + 1]; ++j) terms += local[index[j]] >= 0;
        window_offset[r + 1] = terms;
    }
    return terms;
}

void list_window_terms(const int64_t* offset, const int32_t* index, const float* coefficient, const int64_t* rows,
                       int64_t row_count, const int32_t* local, int32_t* window_index, float* window_coefficient) {
    int64_t written = 0;
    for (int64_t r = 0; r < row_count; ++r)
        for (int64_t j = offset[rows[r]]; j < offset[rows[r] + 1]; ++j) {
            if (local[index[j]] < 0) continue;
            window_index[written] = local[index[j]];
            window_coefficient[written++] = coefficient[j];
        }
}

void scatter_windows(const float* maps, int64_t stride, const int64_t* target, int64_t row_count,
                     const Rectangle& tile, const int64_t* origin, int64_t window_height, int64_t window_width,
                     float* result, int threads) {
    const int64_t tile_width = tile.x1 - tile.x0;
    parallel_for(threads, row_count, [&](int, int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            const int64_t unit = target[r];
            if (unit < 0) continue;
            const int64_t top = origin[2 * unit], left = origin[2 * unit + 1];
            const int64_t x0 = std::max(tile.x0, left), x1 = std::min(tile.x1, left + window_width);
            const int64_t y0 = std::max(tile.y0, top), y1 = std::min(tile.y1, top + window_height);
            if (x0 >= x1) continue;
            const float* source = maps + r * stride - tile.x0;
            float* out = result + unit * window_height * window_width - left;
            for (int64_t y = y0; y < y1; ++y)
                std::memcpy(out + (y - top) * window_width + x0, source + (y - tile.y0) * tile_width + x0,
                            (x1 - x0) * sizeof(float));
        }
    });
}

}  // namespace fwdkern
