#pragma once

#include <cstdint>
#include <vector>

#include "fwdkern/gathered_gemm.h"
#include "fwdkern/isa.h"
#include "gathered_gemm_kernels.h"

namespace fwdkern {

// Rows [begin, end) of a list.
struct Span {
    int64_t begin, end;
};

// The rows of `rows` inside `span`, which is of one position, whose channel lies in [low, high).
Span in_group(const RowList& rows, Span span, int64_t low, int64_t high);

int64_t longest_position(const RowList& rows);

// The terms of one output position, gathered, and their product with its rows: a thread's scratch.
class Position {
public:
    // depth: terms at most; rows: output rows at most.
    Position(const GemmKernels& kernels, Storage in, int64_t depth, int64_t rows);

    void clear() { depth_ = 0; }
    int64_t depth() const { return depth_; }

    // weight_row [width], in_row [slices].
    void add(const float* weight_row, const void* in_row) {
        weight_rows_[depth_] = weight_row;
        in_rows_[depth_++] = in_row;
    }

    // out[m] = scale[m] * sum over terms of weight_row[channel[m] - base] * in_row, plus the previous out[m] where
    // accumulate; channel ascends. scale may be null.
    void multiply(const int32_t* channel, int64_t base, int64_t count, int64_t width, int64_t slices,
                  const float* scale, bool accumulate, float* out, int64_t out_stride);

private:
    int64_t panels_of(int64_t rows) const { return (rows + kernels_.tile_rows - 1) / kernels_.tile_rows; }

    const GemmKernels& kernels_;
    Storage in_;
    int64_t depth_ = 0;
    std::vector<const float*> weight_rows_;
    std::vector<const void*> in_rows_;
    std::vector<int32_t> columns_;  // within the group, of the output rows
    std::vector<int32_t> panel_begin_;
    std::vector<float> packed_;
};

}  // namespace fwdkern
