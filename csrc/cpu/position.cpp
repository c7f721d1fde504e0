#include "position.h"

#include <algorithm>

namespace fwdkern {

Span in_group(const RowList& rows, Span span, int64_t low, int64_t high) {
    const int32_t* begin = std::lower_bound(rows.channel + span.begin, rows.channel + span.end, low);
    const int32_t* end = std::lower_bound(begin, rows.channel + span.end, high);
    return {begin - rows.channel, end - rows.channel};
}

int64_t longest_position(const RowList& rows) {
    int64_t longest = 0;
    for (int64_t p = 0; p < rows.positions; ++p) longest = std::max(longest, rows.offset[p + 1] - rows.offset[p]);
    return longest;
}

Position::Position(const GemmKernels& kernels, Storage in, int64_t depth, int64_t rows)
    : kernels_(kernels), in_(in), weight_rows_(depth), in_rows_(depth), columns_(rows),
      panel_begin_(panels_of(rows) + 1),
      packed_(panels_of(rows) * std::min(kernels.depth_block, depth) * kernels.tile_rows) {}

void Position::multiply(const int32_t* channel, int64_t base, int64_t count, int64_t width, int64_t slices,
                        const float* scale, bool accumulate, float* out, int64_t out_stride) {
    const auto multiply = kernels_.multiply[static_cast<int>(in_)];
    const int64_t panels = panels_of(count);
    // Panels of nearly equal height: a last one of a single row would leave most of the tile idle.
    for (int64_t p = 0; p <= panels; ++p) panel_begin_[p] = static_cast<int32_t>(count * p / panels);
    for (int64_t m = 0; m < count; ++m) columns_[m] = static_cast<int32_t>(channel[m] - base);
    // A position without terms is still written once, with zeros.
    for (int64_t begin = 0; begin < depth_ || !accumulate; begin += kernels_.depth_block, accumulate = true) {
        const int64_t size = std::min(kernels_.depth_block, depth_ - begin);
        kernels_.pack(weight_rows_.data() + begin, size, columns_.data(), panel_begin_.data(), panels, width,
                      packed_.data());
        for (int64_t p = 0; p < panels; ++p) {
            const int64_t m = panel_begin_[p];
            multiply(packed_.data() + p * size * kernels_.tile_rows, in_rows_.data() + begin, size,
                     panel_begin_[p + 1] - static_cast<int>(m), slices, scale ? scale + m : nullptr, accumulate,
                     out + m * out_stride, out_stride);
        }
    }
}

}  // namespace fwdkern
